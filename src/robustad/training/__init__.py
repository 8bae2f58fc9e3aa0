"""Training: one engine on Lightning Fabric, one method per detector, recipes by name."""

from robustad.training.batches import Batch, Batches, Schedule
from robustad.training.config import TrainingConfig
from robustad.training.engine import Engine, Losses, Method, RunResult, StepContext, make_fabric
from robustad.training.looks import EarlyLook
from robustad.training.patchguard import DefaultMethod, Generator, PatchGuardMethod, PublishedMethod, ReplayMethod
from robustad.training.recipes import RECIPES, Recipe, recipe

__all__ = [
    "RECIPES",
    "Batch",
    "Batches",
    "DefaultMethod",
    "EarlyLook",
    "Engine",
    "Generator",
    "Losses",
    "Method",
    "PatchGuardMethod",
    "PublishedMethod",
    "Recipe",
    "ReplayMethod",
    "RunResult",
    "Schedule",
    "StepContext",
    "TrainingConfig",
    "make_fabric",
    "recipe",
]
