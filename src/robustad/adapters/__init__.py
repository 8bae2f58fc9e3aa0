"""Other people's detectors for our bench, and our detectors for other people's tools."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from robustad._extras import require
from robustad.adapters.anomalib import embed_weights, from_anomalib
from robustad.adapters.callables import CallableDetector, from_callable
from robustad.adapters.classifier import TwoLogits, as_classifier
from robustad.adapters.onnx import from_onnx

if TYPE_CHECKING:
    from robustad.detectors import AnomalyDetector

__all__ = [
    "CallableDetector",
    "TwoLogits",
    "as_anomalib",
    "as_classifier",
    "embed_weights",
    "from_anomalib",
    "from_callable",
    "from_onnx",
]


def as_anomalib(
    what: str | AnomalyDetector = "default",
    *,
    model: Mapping[str, Any] | None = None,
    training: Mapping[str, Any] | None = None,
) -> Any:
    """PatchGuard or COBRA as an ``AnomalibModule``, which anomalib's ``Engine`` trains, tests and exports.

    Args:
        what: Name of a recipe, e.g. ``default`` (PatchGuard) or ``cobra``; or a detector, whose weights are kept.
        model: What differs from the recipe's architecture, by name, e.g. ``{"image_size": 256}``.
        training: What differs from the recipe's training, e.g. ``{"replays": 1, "attack_steps": 1}``.

    Raises:
        MissingExtra: If anomalib is not installed.
        ValueError: If an option does not exist or does not fit.
    """
    require("anomalib", "anomalib")
    from robustad.adapters.anomalib_module import wrapped

    return wrapped(what, model, training)
