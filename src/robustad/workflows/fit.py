"""Train a detector: from a folder of normal images to a checkpoint."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from robustad._checks import check_choice
from robustad._configs import from_plain_nested, to_plain
from robustad._random import torch_generator
from robustad.data import ImageDataset, Sample
from robustad.detectors import AnomalyDetector, save_checkpoint
from robustad.images import NEARLY_BLACK, read_image
from robustad.training import (
    Batches,
    CobraRecipe,
    EarlyLook,
    Engine,
    Generator,
    PatchGuardRecipe,
    Recipe,
    Schedule,
    TrainingConfig,
    recipe,
)
from robustad.training.runlog import read_log
from robustad.workflows._batches import batches, stack
from robustad.workflows._data import DataConfig, fingerprint, load_split
from robustad.workflows._foreground import with_foreground
from robustad.workflows._run import CHECKPOINT, LOG_FILE, claimed, goes_on, read_config

MAX_PREPARED = 1024  # normal images that statistics and references are taken from
LOOKED_AT = 25  # images whose files are looked at before anything is made of them


@dataclass(frozen=True, kw_only=True)
class FitConfig(Recipe):
    """Everything that decides how a detector is trained: a recipe, and what it is applied to.

    Attributes:
        model: Architecture.
        training: Engine and adversarial training.
        recipe: What sets all other options: default, texture, published (PatchGuard), cobra, cobra-published (COBRA).
        data: What to train on.
        foreground: Where pseudo-anomalies may lie, for images without a mask file: ``none`` (everywhere),
            ``classical`` or ``cam``.
        tensorboard: Also log for TensorBoard.
    """

    recipe: str = "default"
    data: DataConfig = field(default_factory=DataConfig)
    foreground: str = "none"
    tensorboard: bool = False

    def __post_init__(self) -> None:
        check_choice("foreground", self.foreground, ("none", "classical", "cam"))
        super().__post_init__()

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return to_plain(self)

    @staticmethod
    def from_dict(values: Mapping[str, Any]) -> FitConfig:
        """The inverse of `to_dict`; the recipe says which detector the options are for."""
        return from_plain_nested(type(fit_config(values.get("recipe", "default"))), values)


@dataclass(frozen=True, kw_only=True)
class PatchGuardFit(PatchGuardRecipe, FitConfig):
    """How a PatchGuard detector is trained.

    Attributes:
        recipe: What sets all other options: default, texture, published (PatchGuard), cobra, cobra-published (COBRA).
        data: What to train on.
        model: Architecture.
        training: Engine and adversarial training.
        pseudo: Options of the default generator of pseudo-anomalies.
        generator: ``default`` or ``published``.
        method: Loss and training attack, ``default`` or ``published``.
        foreground: Where pseudo-anomalies may lie, for images without a mask file: ``none`` (everywhere),
            ``classical`` or ``cam``.
        tensorboard: Also log for TensorBoard.
    """


@dataclass(frozen=True, kw_only=True)
class CobraFit(CobraRecipe, FitConfig):
    """How a COBRA detector is trained.

    Attributes:
        recipe: What sets all other options: default, texture, published (PatchGuard), cobra, cobra-published (COBRA).
        data: What to train on.
        model: Architecture, and the transforms of pseudo-anomalous blocks.
        training: Engine and adversarial training.
        losses: What is minimised, and against which adversary.
        foreground: ``none``: pseudo-anomalies change all of an image.
        tensorboard: Also log for TensorBoard.
    """

    recipe: str = "cobra"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.foreground != "none":
            raise ValueError(f"COBRA's anomalies change all of an image: leave `foreground` {self.foreground!r} out")


FIT_CONFIGS: dict[type[AnomalyDetector], type[FitConfig]] = {
    config.detector_class: config for config in (PatchGuardFit, CobraFit)
}


@dataclass(frozen=True)
class FitResult:
    """What training leaves behind.

    Attributes:
        checkpoint: Folder of the trained detector.
        steps: Training steps.
        seconds: Wall time of this session.
        figures: Last early look.
        testable: Whether the data hold test images of both classes.
    """

    checkpoint: Path
    steps: int
    seconds: float
    figures: dict[str, float]
    testable: bool = True


def fit_config(name: str = "default", data: str | None = None) -> FitConfig:
    """All options of a recipe, with what it prescribes for a data set, by name; None = images of your own."""
    chosen = recipe(name).for_data(data)
    options = {option.name: getattr(chosen, option.name) for option in dataclasses.fields(chosen)}
    return FIT_CONFIGS[chosen.detector_class](recipe=name, **options)


def fit(config: FitConfig, run_dir: str | Path, *, resume: bool = False) -> FitResult:
    """Train, and write ``run_dir/checkpoint``; the run folder also holds the config, the log and the resume state.

    Args:
        config: See `FitConfig`.
        run_dir: Folder of this run; must be new, unless ``resume``.
        resume: Continue the run in ``run_dir``, whose config must be the same.

    Raises:
        ValueError: If the data or the options do not fit.
        CheckpointError: If there is nothing to resume, or the folder holds another run.
    """
    run = Path(run_dir)
    split = load_split(config.data, seed=config.training.seed)
    generator = config.make_generator(config.data.data, config.data.category)
    train, held_out = _hold_out(split.train, config.training) if generator else (split.train, [])
    with claimed(run, config, resume=resume):
        _check_light(train)
        train = with_foreground(train, config.foreground, run / "foreground" / "train")
        held_out = with_foreground(held_out, config.foreground, run / "foreground" / "held_out")
        images = fingerprint(split.train)
        engine = _engine(config, train, held_out, generator, run, images=images, resume=resume and goes_on(run))
    result = engine.run()
    detector = result.network
    assert isinstance(detector, AnomalyDetector)
    if type(detector).complete is not AnomalyDetector.complete:
        detector.complete(batches(_dataset(config, train, run), "looking at normal images"))
    info = {
        "data": config.data.resolved().to_dict(),
        "seed": config.training.seed,
        "recipe": config.recipe,
        "fingerprint": images,
        "training": config.training.to_dict(),
        "steps": result.steps,
        "kept_step": result.kept_step,
        "seconds": round(result.seconds, 1),
    }
    checkpoint = save_checkpoint(run / CHECKPOINT, detector, info=info)
    figures = [row for row in read_log(run / LOG_FILE) if "look_AUROC" in row]
    testable = len({sample.label for sample in split.test}) == 2
    return FitResult(checkpoint, result.steps, result.seconds, figures[-1] if figures else {}, testable)


def _check_light(samples: Sequence[Sample]) -> None:
    """Refuse images of which the network would see a few grey levels only, by some of the files."""
    some = samples[:: max(1, len(samples) // LOOKED_AT)][:LOOKED_AT]
    brightest = int(np.median([read_image(sample.path).max() for sample in some])) if some else 255
    if brightest <= NEARLY_BLACK:
        raise ValueError(
            f"the training images are nearly black: half of them have no value above {brightest} of 255; "
            "stretch their values before (12-bit greys in 16-bit files: times 16)"
        )


def _dataset(config: FitConfig, train: list[Sample], run: Path) -> ImageDataset:
    return ImageDataset(train, config.model.image_size, cache_dir=run / "cache", published=config.published_loading)


def _engine(
    config: FitConfig,
    train: list[Sample],
    held_out: list[Sample],
    generator: Generator | None,
    run: Path,
    *,
    images: str,
    resume: bool,
) -> Engine:
    """Everything that a training needs, joined."""
    training = config.training
    dataset = _dataset(config, train, run)
    schedule = Schedule(
        len(dataset),
        training.batch_size,
        seed=training.seed,
        replays=training.updates_per_batch,
        keep_partial=training.schedule == "published",
        epoch_images=training.epoch_images,
    )
    chosen = torch.randperm(len(dataset), generator=torch_generator(training.seed, "prepare"))[:MAX_PREPARED]
    normals = stack(dataset, chosen.tolist())[0]
    return Engine(
        config.make_method(_detector(config, normals, chosen), generator, normals),
        Batches(dataset, schedule, augment=training.augment, num_workers=training.num_workers),
        config=training,
        folder=run,
        look=_look(held_out, config, generator, run),
        resume=resume,
        images=images,
        tensorboard=config.tensorboard,
    )


def resume_config(run_dir: str | Path) -> FitConfig:
    """The config that a run folder was started with."""
    return FitConfig.from_dict(read_config(run_dir))


def _hold_out(samples: Sequence[Sample], config: TrainingConfig) -> tuple[list[Sample], list[Sample]]:
    """Training images, and every n-th normal image held out for early looks (at most a tenth of all)."""
    count = min(config.look_images, len(samples) // 10) if config.look_every else 0
    if count == 0:
        return list(samples), []
    chosen = {round(i * len(samples) / count) for i in range(count)}
    return [s for i, s in enumerate(samples) if i not in chosen], [s for i, s in enumerate(samples) if i in chosen]


def _look(held_out: list[Sample], config: FitConfig, generator: Any, run: Path) -> EarlyLook | None:
    if not held_out:
        return None
    images, foreground = stack(_dataset(config, held_out, run))
    return EarlyLook(images, foreground, generator, epsilon=config.training.epsilon, seed=config.training.seed)


def _detector(config: FitConfig, normals: Tensor, sources: Tensor) -> AnomalyDetector:
    """A detector with starting weights of the seed; the global random state is left alone."""
    seed = config.training.seed
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        detector = config.detector_class(config.model_for(normals))
    detector.prepare(normals, sources=sources, seed=seed)
    return detector
