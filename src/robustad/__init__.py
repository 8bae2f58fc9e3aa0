"""robustad: anomaly detection and localization that holds under attack.

The names below are loaded when they are first used, so that ``import robustad`` costs nothing. Everything else is in
the sub-packages.
"""

import importlib
from typing import Any

__version__ = "0.1.0"

_HOMES = {
    "PGD": "robustad.attacks",
    "DataConfig": "robustad.workflows._data",
    "FitConfig": "robustad.workflows.fit",
    "ImageDataset": "robustad.data",
    "ImageObjective": "robustad.attacks",
    "MapObjective": "robustad.attacks",
    "PatchGuard": "robustad.detectors",
    "PatchGuardConfig": "robustad.detectors",
    "Prediction": "robustad.types",
    "Predictor": "robustad.inference",
    "RobustadError": "robustad.errors",
    "TestConfig": "robustad.workflows.test_config",
    "fit": "robustad.workflows.fit",
    "fit_config": "robustad.workflows.fit",
    "load_checkpoint": "robustad.detectors",
    "load_samples": "robustad.data",
    "predict": "robustad.workflows.predict",
    "save_checkpoint": "robustad.detectors",
    "test": "robustad.workflows.test",
    "visualize": "robustad.workflows.visualize",
}

__all__ = sorted(_HOMES)  # noqa: PLE0605 - the stub beside this file lists them for type checkers


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'robustad' has no attribute {name!r}; it has {', '.join(__all__)}")
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
