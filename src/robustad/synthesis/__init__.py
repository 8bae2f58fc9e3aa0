"""Pseudo-anomalies: normal images in, anomalous images and their masks out."""

from robustad.synthesis.appearances import APPEARANCES
from robustad.synthesis.likelihood import LikelihoodFilter
from robustad.synthesis.pseudo import PseudoAnomalies, PseudoAnomalyConfig
from robustad.synthesis.scenes import PATTERNS, scenes
from robustad.synthesis.shapes import SHAPES

__all__ = [
    "APPEARANCES",
    "PATTERNS",
    "SHAPES",
    "LikelihoodFilter",
    "PseudoAnomalies",
    "PseudoAnomalyConfig",
    "scenes",
]
