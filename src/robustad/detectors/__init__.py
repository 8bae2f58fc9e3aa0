"""Detectors: modules that map images in [0, 1] to scores and anomaly maps."""

from robustad.detectors.base import AnomalyDetector, DetectorConfig
from robustad.detectors.baselines import Brightness, BrightnessConfig, PatchCore, PatchCoreConfig
from robustad.detectors.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from robustad.detectors.cobra import Cobra, CobraConfig
from robustad.detectors.nearest import NearestNormal, NearestNormalConfig
from robustad.detectors.official import load_official
from robustad.detectors.patchguard import PatchGuard, PatchGuardConfig, PatchOutput
from robustad.detectors.registry import DETECTORS

__all__ = [
    "DETECTORS",
    "AnomalyDetector",
    "Brightness",
    "BrightnessConfig",
    "Checkpoint",
    "Cobra",
    "CobraConfig",
    "DetectorConfig",
    "NearestNormal",
    "NearestNormalConfig",
    "PatchCore",
    "PatchCoreConfig",
    "PatchGuard",
    "PatchGuardConfig",
    "PatchOutput",
    "load_checkpoint",
    "load_official",
    "save_checkpoint",
]
