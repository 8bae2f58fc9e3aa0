"""Training: one engine on Lightning Fabric, one method per detector, recipes by name."""

from robustad.training.batches import Batch, Batches, Schedule
from robustad.training.cobra import CobraLossConfig, CobraMethod
from robustad.training.config import TrainingConfig
from robustad.training.engine import (
    Engine,
    Losses,
    Method,
    RunResult,
    StepContext,
    isolated_randomness,
    learning_rate,
    make_fabric,
    make_optimizer,
)
from robustad.training.generators import Generator
from robustad.training.looks import EarlyLook
from robustad.training.patchguard import DefaultMethod, PatchGuardMethod, PublishedMethod, ReplayMethod
from robustad.training.pretraining import TaskLook, TaskMethod
from robustad.training.recipes import FIRST_RECIPES, RECIPES, CobraRecipe, PatchGuardRecipe, Recipe, recipe
from robustad.training.tasks import SceneTasks, TaskDetector

__all__ = [
    "FIRST_RECIPES",
    "RECIPES",
    "Batch",
    "Batches",
    "CobraLossConfig",
    "CobraMethod",
    "CobraRecipe",
    "DefaultMethod",
    "EarlyLook",
    "Engine",
    "Generator",
    "Losses",
    "Method",
    "PatchGuardMethod",
    "PatchGuardRecipe",
    "PublishedMethod",
    "Recipe",
    "ReplayMethod",
    "RunResult",
    "SceneTasks",
    "Schedule",
    "StepContext",
    "TaskDetector",
    "TaskLook",
    "TaskMethod",
    "TrainingConfig",
    "isolated_randomness",
    "learning_rate",
    "make_fabric",
    "make_optimizer",
    "recipe",
]
