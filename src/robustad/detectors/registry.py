"""Detectors by name: one row each."""

from __future__ import annotations

from robustad.detectors.base import AnomalyDetector
from robustad.detectors.baselines import Brightness, PatchCore
from robustad.detectors.cobra import Cobra
from robustad.detectors.nearest import NearestNormal
from robustad.detectors.patchguard import PatchGuard

DETECTORS: dict[str, type[AnomalyDetector]] = {
    "brightness": Brightness,
    "cobra": Cobra,
    "nearest": NearestNormal,
    "patchcore": PatchCore,
    "patchguard": PatchGuard,
}
