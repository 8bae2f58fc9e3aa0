"""Recipes: every option of a way to train, by name."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from typing import ClassVar, Self

from torch import Tensor

from robustad._checks import check_choice
from robustad.backbones import start_facts
from robustad.detectors import AnomalyDetector, Cobra, CobraConfig, DetectorConfig, PatchGuard, PatchGuardConfig
from robustad.synthesis import LikelihoodFilter, PseudoAnomalyConfig
from robustad.training.cobra import CobraLossConfig, CobraMethod
from robustad.training.cobra_data import COBRA_DATA, OTHER_DATA, RELEASED_RATES
from robustad.training.config import TrainingConfig
from robustad.training.contrastive import trained_terms
from robustad.training.engine import Method
from robustad.training.generators import Generator, default_generator, published_generator
from robustad.training.patchguard import DefaultMethod, PatchGuardMethod, PublishedMethod, ReplayMethod

METHODS = ("default", "published")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Recipe(ABC):
    """Options of one way to train one detector, and what follows from them.

    Attributes:
        model: Architecture.
        training: Engine and adversarial training.
    """

    detector_class: ClassVar[type[AnomalyDetector]]
    model: DetectorConfig
    training: TrainingConfig

    def __post_init__(self) -> None:  # noqa: B027 - options are checked by who has them
        """Nothing to check here."""

    def for_data(self, data: str | None) -> Self:
        """This recipe with what it prescribes for a data set, by name; None = images of your own."""
        del data
        return self

    @abstractmethod
    def make_method(self, detector: AnomalyDetector, generator: Generator | None, normals: Tensor) -> Method:
        """The step that trains ``detector``.

        Args:
            detector: With its starting weights.
            generator: What `make_generator` gave.
            normals: Some normal training images ``(M, 3, S, S)`` in [0, 1].
        """

    def make_generator(self, data: str | None = None, category: str | None = None) -> Generator | None:
        """The maker of pseudo-anomalies; bounds of the published one depend on the data set.

        None where the detector makes its own; it then has no score before its training is complete, hence no looks.
        """
        del data, category
        return None

    def model_for(self, images: Tensor) -> DetectorConfig:
        """The architecture, adapted to normal training images ``(M, 3, S, S)`` in [0, 1]."""
        del images
        return self.model

    @property
    def published_loading(self) -> bool:
        """Whether images are read as the released PatchGuard code reads them."""
        return False


@dataclasses.dataclass(frozen=True, kw_only=True)
class PatchGuardRecipe(Recipe):
    """Options of one way to train PatchGuard.

    Attributes:
        model: Architecture.
        training: Engine and adversarial training.
        pseudo: Options of the default generator of pseudo-anomalies.
        generator: ``default`` or ``published``.
        method: Loss and training attack, ``default`` or ``published``.
    """

    detector_class: ClassVar[type[AnomalyDetector]] = PatchGuard
    model: PatchGuardConfig = dataclasses.field(default_factory=PatchGuardConfig)
    training: TrainingConfig = dataclasses.field(default_factory=lambda: TrainingConfig(max_time=300.0))
    pseudo: PseudoAnomalyConfig = dataclasses.field(default_factory=PseudoAnomalyConfig)
    generator: str = "default"
    method: str = "default"

    def __post_init__(self) -> None:
        check_choice("generator", self.generator, METHODS)
        check_choice("method", self.method, METHODS)
        if self.method == "published":
            _check_fresh(self.training, "`method` published")
        elif self.training.updates_per_batch > 1:
            check_replayed(self.training)
        super().__post_init__()

    def make_method(self, detector: AnomalyDetector, generator: Generator | None, normals: Tensor) -> Method:
        """See `Recipe.make_method`."""
        del normals
        assert isinstance(detector, PatchGuard) and generator is not None
        return self._method_class()(detector, self.training, generator)

    def _method_class(self) -> type[PatchGuardMethod]:
        if self.method == "published":
            return PublishedMethod
        return ReplayMethod if self.training.updates_per_batch > 1 else DefaultMethod

    def make_generator(self, data: str | None = None, category: str | None = None) -> Generator:
        """See `Recipe.make_generator`."""
        if self.generator == "default":
            return default_generator(self.pseudo)
        return published_generator(data, category, self.model.image_size)

    def model_for(self, images: Tensor) -> DetectorConfig:
        """From random weights, pixels are normalised by the training images' own mean and spread.

        Likewise from weights of `robustad pretrain`, where each process had its own. The embedded network was trained
        on [-1, 1]. Other pretrained weights keep the normalisation that is given, and the published recipe its own.
        """
        if self.model.weights == "embedded":
            return dataclasses.replace(self.model, mean=(0.5,) * 3, std=(0.5,) * 3)
        own = self.model.weights == "none" or start_facts(self.model.weights) is not None
        if self.method == "published" or not own:
            return self.model
        std = images.std(dim=(0, 2, 3)).clamp_min(4 / 255)
        return dataclasses.replace(self.model, mean=_triple(images.mean(dim=(0, 2, 3))), std=_triple(std))

    @property
    def published_loading(self) -> bool:
        """See `Recipe.published_loading`."""
        return self.method == "published"


def _check_fresh(config: TrainingConfig, who: str) -> None:
    """Attacks that begin anew with every update would only see the same images again."""
    if config.replays > 1:
        raise ValueError(f"{who} attacks every batch anew: set `replays` to 1 and choose `attack_steps`")


def check_replayed(config: TrainingConfig) -> None:
    """Options of attacks that begin anew would do nothing."""
    for option in dataclasses.fields(config):
        if option.name in ("attack_steps", "clean_fraction") and getattr(config, option.name) != option.default:
            raise ValueError(
                f"`{option.name}` does nothing while an attack is reused over {config.replays} updates; for a fresh "
                "attack in each of them set `replays` to 1"
            )


def _light_cobra() -> CobraConfig:
    """A quarter of the published width, and a score of the image as it is: what a few cores can train and attack."""
    return CobraConfig(width=16, views=1, scored_blocks=1)


def _cobra_training(**options: object) -> TrainingConfig:
    values: dict[str, object] = {
        "max_time": 300.0,
        "batch_size": 32,
        "epsilon": 4 / 255,
        "replays": 1,
        "attack_steps": 3,
        "average_decay": 0.0,
        "augment": False,
        "look_every": 0.0,
    }
    return TrainingConfig(**{**values, **options})  # type: ignore[arg-type]


@dataclasses.dataclass(frozen=True, kw_only=True)
class CobraRecipe(Recipe):
    """Options of one way to train COBRA.

    Attributes:
        model: Architecture, and the transforms of pseudo-anomalous blocks.
        training: Engine and adversarial training.
        losses: What is minimised, and against which adversary.
    """

    detector_class: ClassVar[type[AnomalyDetector]] = Cobra
    model: CobraConfig = dataclasses.field(default_factory=_light_cobra)
    training: TrainingConfig = dataclasses.field(default_factory=_cobra_training)
    losses: CobraLossConfig = dataclasses.field(default_factory=CobraLossConfig)

    def __post_init__(self) -> None:
        _check_fresh(self.training, "COBRA")
        super().__post_init__()

    def for_data(self, data: str | None) -> Self:
        """See `Recipe.for_data`; the rows are `COBRA_DATA`."""
        row = COBRA_DATA.get(data or "", OTHER_DATA)
        model = dataclasses.replace(
            self.model,
            backbone=row.backbone,
            image_size=row.image_size,
            blocks=(row.transforms,),
            crop=row.crop,
            mirror=row.mirror,
            jitter=row.jitter,
        )
        training = dataclasses.replace(self.training, epoch_images=row.epoch_images, **row.rates)
        return dataclasses.replace(self, model=model, training=training)

    def model_for(self, images: Tensor) -> DetectorConfig:
        """The architecture; its score leaves out what the loss does not train.

        Raises:
            ValueError: If nothing is left of it.
        """
        del images
        trained = trained_terms(self.losses.loss)
        terms = tuple(term for term in self.model.terms if term in trained)
        if not terms:
            raise ValueError(
                f"loss {self.losses.loss!r} trains {trained[0]} only, `terms` has {self.model.terms[0]} only"
            )
        return dataclasses.replace(self.model, terms=terms)

    def make_method(self, detector: AnomalyDetector, generator: Generator | None, normals: Tensor) -> Method:
        """See `Recipe.make_method`; pseudo-anomalies come from the detector's own blocks."""
        del generator
        assert isinstance(detector, Cobra)
        share = self.losses.filter_share
        likelihood = LikelihoodFilter(normals, share=share) if share else None
        return CobraMethod(detector, self.training, self.losses, likelihood)


def _triple(values: Tensor) -> tuple[float, float, float]:
    red, green, blue = values.tolist()
    return red, green, blue


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
    return PatchGuardRecipe(
        model=PatchGuardConfig.published(), training=training, generator="published", method="published"
    )


def _texture() -> Recipe:
    """The default for surfaces that vary from image to image, whose defects are small marks or uneven areas."""
    return PatchGuardRecipe(
        model=PatchGuardConfig(backbone="hybrid", weights="embedded", mean=(0.5,) * 3, std=(0.5,) * 3, top_k=1),
        training=TrainingConfig(max_time=1200.0, batch_size=8, epsilon=4 / 255, balance="images"),
        pseudo=PseudoAnomalyConfig(
            shapes={"blob": 0.4, "stroke": 0.2, "strip": 0.25, "band": 0.15},
            appearances={"light": 0.75, "moved": 0.1, "texture": 0.05, "tint": 0.1},
            half_sizes=(0.02, 0.3),
            min_change=24 / 255,
        ),
    )


def _published_cobra() -> Recipe:
    """The released recipe of COBRA; without a data set, the one for small images (one-class CIFAR-10)."""
    training = _cobra_training(
        max_time=None,
        max_epochs=1000,
        batch_size=64,
        **RELEASED_RATES,
        epsilon=8 / 255,
        epsilon_warmup=0.0,
        attack_steps=10,
        precision="float32",
    )
    return CobraRecipe(model=CobraConfig(), training=training)


RECIPES = {
    "default": PatchGuardRecipe,
    "texture": _texture,
    "published": _published,
    "cobra": CobraRecipe,
    "cobra-published": _published_cobra,
}
FIRST_RECIPES = {"patchguard": "default", "cobra": "cobra"}
"""The recipe of each detector that is taken unless one is named."""


def recipe(name: str) -> Recipe:
    """A recipe by name.

    Raises:
        ValueError: If there is no such recipe; the text lists them.
    """
    return RECIPES[check_choice("recipe", name, RECIPES)]()
