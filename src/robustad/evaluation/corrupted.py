"""A detector on corrupted images: how well it still ranks them, and what becomes of a threshold fixed beforehand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from robustad._checks import check_choice
from robustad._devices import device_of, to_device
from robustad._progress import Progress
from robustad.corruptions import CORRUPTIONS, SEVERITIES, corrupt
from robustad.data import ImageDataset
from robustad.evaluation.figures import BASELINE, Subject, defined
from robustad.evaluation.rows import Row
from robustad.evaluation.store import Arrays, Store
from robustad.evaluation.witness import Witness, frozen
from robustad.metrics import auroc

SEVERITY = "severity"
"""Stands as the norm of rows whose ``epsilon`` is a severity."""
FALSE_ALARMS, MISSES = "false_alarm_rate", "miss_rate"
ALL = "corruptions"
"""Stands as the attack of rows that are a mean over all corruptions and severities."""
USUAL_RATE = 0.05
"""Share of clean normal images above the threshold, where a detector has no calibrated one."""


@dataclass(frozen=True, kw_only=True)
class Corrupted:
    """Scores of all images under one corruption.

    Attributes:
        name: The corruption; ``none`` = clean.
        severity: 1 to 5; 0 = clean.
        scores: ``(N,)``.
        brightness: Mean brightness ``(N,)``.
    """

    name: str
    severity: int
    scores: NDArray[np.float32]
    brightness: NDArray[np.float32]


def evaluate_corruptions(
    detector: Any,
    dataset: ImageDataset,
    names: Sequence[str],
    *,
    severities: Sequence[int] = (1, 3, 5),
    batch_size: int = 32,
    seed: int = 0,
    store: Store | None = None,
    show_progress: bool = True,
) -> list[Corrupted]:
    """Score a data set clean and under every corruption at every severity; finished pieces are kept in the store.

    Raises:
        ValueError: If there is no such corruption or severity, or no image.
    """
    check_corruptions(names, severities)
    if len(dataset) == 0:
        raise ValueError("there is no test image")
    store = store or Store()
    kinds = [("none", 0), *((name, severity) for name in names for severity in sorted(set(severities)))]
    chunks = [range(i, min(i + batch_size, len(dataset))) for i in range(0, len(dataset), batch_size)]
    found: dict[tuple[str, int], list[Arrays]] = {kind: [] for kind in kinds}
    shown = Progress("corrupting", len(kinds) * len(dataset), unit="images", enabled=show_progress)
    with frozen(detector), shown:
        for chunk in chunks:
            images = None
            for name, severity in kinds:
                key = ("corrupted", chunk, name, severity, seed)
                arrays = store.get(*key)
                if arrays is None:
                    if images is None:
                        images = torch.stack([dataset[index]["image"] for index in chunk]).float() / 255
                    arrays = _seen(detector, images if name == "none" else corrupt(images, name, severity, seed=seed))
                    store.put(arrays, *key)
                found[name, severity].append(arrays)
                shown.update(len(chunk), note=name)
    return [_joined(name, severity, parts) for (name, severity), parts in found.items()]


def check_corruptions(names: Sequence[str], severities: Sequence[int]) -> None:
    """Refuse unknown corruptions, and severities other than 1 to 5."""
    for name in names:
        check_choice("corruptions", name, CORRUPTIONS)
    if not severities or set(severities) - set(SEVERITIES):
        raise ValueError(f"`severities` must be whole numbers from 1 to 5, got {list(severities)}")


def _seen(detector: Any, images: Tensor) -> Arrays:
    """What the detector and the baseline say of images."""
    with torch.no_grad():
        scores = Witness(detector).scores(to_device(images, device_of(detector)))
    if bool(scores.isnan().any()):
        raise ValueError("the detector gave NaN as a score of a corrupted image; correct it, then test again")
    return {"scores": scores.float().cpu().numpy(), "brightness": images.mean(dim=(1, 2, 3)).numpy()}


def _joined(name: str, severity: int, parts: Sequence[Arrays]) -> Corrupted:
    scores, brightness = (np.concatenate([part[key] for part in parts]) for key in ("scores", "brightness"))
    return Corrupted(name=name, severity=severity, scores=scores, brightness=brightness)


def usual_threshold(scores: NDArray[np.float32], labels: NDArray[np.bool_]) -> float | None:
    """The score that `USUAL_RATE` of the clean normal images lie above; None without normal images."""
    normal = scores[~labels]
    return float(np.quantile(normal, 1 - USUAL_RATE)) if len(normal) else None


def corruption_rows(
    measured: Sequence[Corrupted], labels: NDArray[np.bool_], subject: Subject, *, threshold: float | None = None
) -> list[Row]:
    """Image AUROC of the detector and of the brightness baseline; false alarms and misses at a fixed threshold.

    The severity stands in ``epsilon``, with the norm `SEVERITY`; rows of the attack `ALL` are means over all of them.
    The threshold of the baseline is `usual_threshold`.

    Args:
        measured: What `evaluate_corruptions` gave: the clean scores come first.
        labels: ``(N,)`` bool, True = anomalous.
        subject: Who was measured.
        threshold: Of the detector; None = `usual_threshold` of its clean scores.
    """
    clean = measured[0]
    thresholds = {
        BASELINE: usual_threshold(-clean.brightness, labels),
        subject.detector: usual_threshold(clean.scores, labels) if threshold is None else threshold,
    }  # in this order: the detector may be the baseline
    rows = []
    for cell in measured:
        for detector, scores in {BASELINE: -cell.brightness, subject.detector: cell.scores}.items():
            common = subject.fields | {
                "detector": detector,
                "recipe": subject.recipe if detector == subject.detector else "none",
                "attack": cell.name,
                "norm": SEVERITY if cell.severity else "none",
                "epsilon": float(cell.severity),
                "targets": "both",
            }
            value, reason = defined(auroc, scores, labels)
            rows.append(Row(**common, metric="image_AUROC", value=value, reason=reason))
            limit = thresholds[detector]
            for metric, chosen, wrong in ((FALSE_ALARMS, ~labels, np.greater), (MISSES, labels, np.less_equal)):
                value, reason = _rate(scores[chosen], limit, wrong)
                rows.append(Row(**common, metric=metric, value=value, reason=reason))
    return rows + _means(rows)


def _means(rows: Sequence[Row]) -> list[Row]:
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        if row.norm == SEVERITY:
            groups.setdefault((row.detector, row.metric), []).append(row)
    means = []
    for group in groups.values():
        values = [row.value for row in group if row.value is not None]
        value = float(np.mean(values)) if len(values) == len(group) else None
        reason = next((row.reason for row in group if row.value is None), None)
        means.append(replace(group[0], attack=ALL, epsilon=0.0, value=value, reason=reason))
    return means


def _rate(scores: NDArray[np.float32], limit: float | None, wrong: Any) -> tuple[float | None, str | None]:
    if limit is None:
        return None, "no threshold: there is no normal image"
    if len(scores) == 0:
        return None, "there is no image of this class"
    if np.isnan(scores).any():
        return None, "a score is NaN"
    return float(wrong(scores, limit).mean()), None
