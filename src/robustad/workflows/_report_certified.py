"""The table of certificates in a test report."""

from __future__ import annotations

from collections.abc import Sequence

from robustad.certify import linf_as_l2
from robustad.evaluation import ABSTENTIONS, BASELINE, CERTIFIED, EXACT, SMOOTHED, Row, select
from robustad.reporting import MetricRow, MetricTable


def certified_table(rows: Sequence[Row], detector: str, *, sigma: float, confidence: float, pixels: int) -> MetricTable:
    """The smoothed detector clean, then what is certain of it at each radius, the brightness baseline beside it.

    Args:
        rows: What `robustad.evaluation.certified_rows` gave.
        detector: Name of the detector.
        sigma: Standard deviation of the noise.
        confidence: Of all figures together.
        pixels: Values of an image, channels included.
    """
    own = select(rows, detector=detector)
    radii = sorted({row.epsilon for row in own if row.attack == CERTIFIED})
    lines = [MetricRow(attack="none", epsilon=0.0, name="smoothed, clean", values=_values(own, SMOOTHED, 0.0))]
    for radius in radii:
        values = _values(own, CERTIFIED, radius) | {"undecided": _number(own, CERTIFIED, radius, ABSTENTIONS)}
        lines.append(MetricRow(attack="none", epsilon=radius, norm="l2", name="at least", values=values, emphasis=True))
    for radius in radii:
        values = _values(select(rows, detector=BASELINE), EXACT, radius)
        lines.append(
            MetricRow(attack="none", epsilon=radius, norm="l2", name=f"{BASELINE}, exact", values=values, baseline=True)
        )
    covered = ", ".join(f"{levels}/255 is {linf_as_l2(levels / 255, pixels):.2f}" for levels in (1, 2, 4))
    return MetricTable(
        caption=f"What is certain: the detector smoothed with noise of {sigma:g}",
        rows=tuple(lines),
        head="Bound",
        note=f"With a confidence of {confidence:.0%} for all images and radii together, no perturbation of this L2 "
        "length, found or not, makes the median over endless noise worse; a median of few samples, whose noise is "
        "known, can be moved a little further. Undecided: share of images whose side of the threshold is not certain. "
        f"What L∞ allows is longer in L2 at this size: {covered}. This table says nothing about those.",
    )


def _values(rows: Sequence[Row], attack: str, radius: float) -> dict[str, float | None]:
    return {"image_AUROC": _number(rows, attack, radius, "image_AUROC")}


def _number(rows: Sequence[Row], attack: str, radius: float, metric: str) -> float | None:
    found = select(rows, attack=attack, epsilon=radius, metric=metric)
    return found[0].value if found else None
