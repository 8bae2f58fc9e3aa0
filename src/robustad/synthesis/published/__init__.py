"""Pseudo-anomalies as PatchGuard published them, with each defect of the released code as a switch."""

from robustad.synthesis.published.bounds import BOUNDS, bounds_for
from robustad.synthesis.published.config import PublishedConfig
from robustad.synthesis.published.generator import Generated, PublishedGenerator
from robustad.synthesis.published.randomness import PublishedRandom, sample_randoms

__all__ = [
    "BOUNDS",
    "Generated",
    "PublishedConfig",
    "PublishedGenerator",
    "PublishedRandom",
    "bounds_for",
    "sample_randoms",
]
