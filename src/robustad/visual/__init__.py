"""Figures: pure functions from arrays to pictures, PNG or SVG."""

from __future__ import annotations

from robustad.visual.pictures import CAPTIONS, outline, overlay, png_bytes, strip
from robustad.visual.plots import (
    Course,
    Curve,
    roc_curve_plot,
    score_histograms,
    security_curve,
    time_curves,
    training_curves,
)

__all__ = [
    "CAPTIONS",
    "Course",
    "Curve",
    "outline",
    "overlay",
    "png_bytes",
    "roc_curve_plot",
    "score_histograms",
    "security_curve",
    "strip",
    "time_curves",
    "training_curves",
]
