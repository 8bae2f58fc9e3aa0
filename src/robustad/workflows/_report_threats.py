"""The table of other threats in a test report."""

from __future__ import annotations

from collections.abc import Sequence

from robustad.evaluation import STICKER, Row
from robustad.reporting import MetricRow, MetricTable, format_epsilon


def threat_table(rows: Sequence[Row], clean: float | None, *, draws: int = 1) -> MetricTable:
    """Clean first, then what `robustad.evaluation.threat_rows` gave; ``draws`` is what a sticker has to work under."""
    worst = "its worst" + f" on average over {draws} turns and brightnesses, and is scored as it is," * (draws > 1)
    lines = [MetricRow(attack="none", epsilon=0.0, name="clean", values={"image_AUROC": clean})]
    for row in rows:
        name = (
            f"sticker, {row.epsilon:.0%} of the side"
            if row.attack == STICKER
            else f"one perturbation for all images, {format_epsilon(row.epsilon, row.norm)}"
        )
        lines.append(MetricRow(attack="none", epsilon=0.0, name=name, values={"image_AUROC": row.value}))
    return MetricTable(
        caption="Other threats",
        rows=tuple(lines),
        head="Threat",
        by_radius=False,
        note=f"A sticker looks {worst} at the worst of four places, image by image. One perturbation for all images "
        "of a class is found on one half of them and tried on the other: what can be printed once.",
    )
