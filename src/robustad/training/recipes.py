"""Recipes: every option of a way to train, by name."""

from __future__ import annotations

import dataclasses

from robustad._checks import check_choice
from robustad.detectors import PatchGuardConfig
from robustad.synthesis import PseudoAnomalyConfig
from robustad.training.config import TrainingConfig


@dataclasses.dataclass(frozen=True, kw_only=True)
class Recipe:
    """Options of one way to train PatchGuard.

    Attributes:
        model: Architecture.
        training: Engine and adversarial training.
        pseudo: Default generator's options; unused by ``generator="published"``.
        generator: ``default`` or ``published``.
        method: ``default`` or ``published``: loss and training attack.
    """

    model: PatchGuardConfig
    training: TrainingConfig
    pseudo: PseudoAnomalyConfig = dataclasses.field(default_factory=PseudoAnomalyConfig)
    generator: str = "default"
    method: str = "default"


def _published() -> Recipe:
    """The released recipe (PatchGuard, section on implementation; released ``main.py`` at af39835)."""
    training = TrainingConfig(
        max_epochs=1000,
        batch_size=16,
        learning_rate=8e-4,
        weight_decay=0.01,
        schedule="published",
        warmup_steps=0,
        gradient_clip=0.0,
        average_decay=0.0,
        precision="float32",
        epsilon=8 / 255,
        epsilon_warmup=0.0,
        replays=1,
        attack_steps=10,
        augment=False,
        look_every=0.0,
    )
    return Recipe(model=PatchGuardConfig.published(), training=training, generator="published", method="published")


def _default() -> Recipe:
    return Recipe(model=PatchGuardConfig(), training=TrainingConfig(max_time=300.0))


def _texture() -> Recipe:
    """The default for surfaces that vary from image to image, with small marks as defects."""
    base = _default()
    return dataclasses.replace(
        base,
        model=dataclasses.replace(base.model, backbone="vit_texture"),
        training=dataclasses.replace(base.training, max_time=1200.0),
        pseudo=PseudoAnomalyConfig(
            shapes={"blob": 0.55, "stroke": 0.45},
            appearances={"light": 0.8, "texture": 0.1, "tint": 0.1},
            half_sizes=(0.02, 0.25),
            min_change=24 / 255,
        ),
    )


RECIPES = {"default": _default, "texture": _texture, "published": _published}


def recipe(name: str) -> Recipe:
    """A recipe by name.

    Raises:
        ValueError: If there is no such recipe; the text lists them.
    """
    return RECIPES[check_choice("recipe", name, RECIPES)]()
