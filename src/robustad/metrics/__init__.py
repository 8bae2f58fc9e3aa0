"""Metrics: pure functions of (scores, labels) or (maps, masks). Undefined is an error, never 0 and never 1."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from robustad.metrics.aupro import aupro
from robustad.metrics.intervals import Interval, MatchedAuroc, auroc_interval, auroc_lead, matched_auroc
from robustad.metrics.ranking import F1Max, RocCurve, aupr, auroc, f1max, pixel_aupr, pixel_auroc, roc_curve


def _f1max_value(scores: Any, labels: Any) -> float:
    return f1max(scores, labels).value


IMAGE_METRICS: dict[str, Callable[[Any, Any], float]] = {
    "image_AUROC": auroc,
    "image_AUPR": aupr,
    "image_F1Max": _f1max_value,
}
"""Metrics of ``(scores, labels)`` by the name that tables use."""

PIXEL_METRICS: dict[str, Callable[[Any, Any], float]] = {
    "pixel_AUROC": pixel_auroc,
    "pixel_AUPR": pixel_aupr,
    "AUPRO": aupro,
}
"""Metrics of ``(maps, masks)`` by the name that tables use."""

__all__ = [
    "IMAGE_METRICS",
    "PIXEL_METRICS",
    "F1Max",
    "Interval",
    "MatchedAuroc",
    "RocCurve",
    "aupr",
    "aupro",
    "auroc",
    "auroc_interval",
    "auroc_lead",
    "f1max",
    "matched_auroc",
    "pixel_aupr",
    "pixel_auroc",
    "roc_curve",
]
