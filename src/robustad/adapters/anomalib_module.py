"""PatchGuard and COBRA inside anomalib: trained, tested and exported by its ``Engine``.

Batches, epochs, devices, precision, checkpoints and metrics are anomalib's; the step is ours: pseudo-anomalies, attack,
loss, learning rate, clipping, replays and weight average are those of a recipe. What a recipe says of the loop
(``batch_size``, ``max_time``, ``max_steps``, ``max_epochs``, ``epoch_images``, ``precision``, ``num_workers``, early
looks) is not carried.
"""

from __future__ import annotations

import dataclasses
import types
from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from typing import Any

import torch
from anomalib import LearningType
from anomalib.data import InferenceBatch
from anomalib.models.components import AnomalibModule
from anomalib.pre_processing import PreProcessor
from torch import Tensor, nn
from torchvision.transforms.v2 import Compose, Resize

from robustad._random import derive_seed
from robustad.detectors import AnomalyDetector, DetectorConfig
from robustad.errors import TrainingError
from robustad.training import (
    FIRST_RECIPES,
    Batch,
    Losses,
    Method,
    Recipe,
    StepContext,
    isolated_randomness,
    learning_rate,
    make_optimizer,
    recipe,
)
from robustad.training.average import WeightAverage
from robustad.training.batches import augment

MAX_PREPARED = 1024  # normal images that statistics and references are taken from
_NO_FABRIC: Any = types.SimpleNamespace(autocast=nullcontext)  # anomalib's trainer has set the precision already


class Scorer(nn.Module):
    """A detector that answers as models of anomalib do.

    Args:
        detector: One of ours.
    """

    def __init__(self, detector: AnomalyDetector) -> None:
        super().__init__()
        self.detector = detector

    def forward(self, images: Tensor) -> Any:
        """``InferenceBatch`` with ``pred_score (N, 1)`` and ``anomaly_map (N, 1, S, S)``, or None without maps."""
        scores, maps = self.detector(images)
        return InferenceBatch(pred_score=scores[:, None], anomaly_map=None if maps is None else maps[:, None])


class RobustadModule(AnomalibModule):  # type: ignore[misc]
    """A detector of ours and its recipe as an ``AnomalibModule``; options are plain values, so that checkpoints load.

    Args:
        recipe: Name of the recipe, e.g. ``default`` (PatchGuard) or ``cobra``.
        model: What differs from the recipe's architecture, by name.
        training: What differs from the recipe's training, by name.
        adapt: Take from the training images what the recipe takes from them (PatchGuard: mean and spread of pixels);
            done once, at the first fit.
        pre_processor: As in anomalib; the default only resizes, since detectors normalise by themselves.
        post_processor: As in anomalib.
        evaluator: As in anomalib.
        visualizer: As in anomalib.

    Raises:
        ValueError: If an option does not exist or does not fit.
    """

    def __init__(
        self,
        recipe: str = "default",
        model: dict[str, Any] | None = None,
        training: dict[str, Any] | None = None,
        adapt: bool = True,
        pre_processor: Any = True,
        post_processor: Any = True,
        evaluator: Any = True,
        visualizer: Any = True,
    ) -> None:
        chosen = built_recipe(recipe, model, training)
        if pre_processor is True:
            pre_processor = self.configure_pre_processor((chosen.model.image_size, chosen.model.image_size))
        super().__init__(pre_processor, post_processor, evaluator, visualizer)
        self.automatic_optimization = False  # a batch may be replayed
        self.recipe = chosen
        self._method: Method | None = None
        self._normals = torch.empty(0)
        self._numbers: dict[str, int] = {}
        self._completed_at = -1
        self._build(chosen.model, blank=not adapt)

    @property
    def detector(self) -> AnomalyDetector:
        """The detector, e.g. for `robustad.save_checkpoint`."""
        detector: AnomalyDetector = self.model.detector
        return detector

    def _build(self, config: DetectorConfig, *, blank: bool) -> None:
        """A network to train and, where weights are averaged, another one that is kept."""
        kind, training = self.recipe.detector_class, self.recipe.training
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(training.seed)
            self.trained = kind.blank(config) if blank else kind(config)
        if training.average_decay and self._remembers:
            raise ValueError(f"`average_decay` must be 0 for {kind.name} in anomalib, got {training.average_decay:g}")
        self._renew()

    def _renew(self) -> None:
        self.average = WeightAverage(self.trained, self.recipe.training.average_decay)
        self.model = Scorer(self.average.module)  # type: ignore[arg-type]

    @property
    def _remembers(self) -> bool:
        """Whether scores need something that is taken from normal images after training."""
        return self.recipe.detector_class.complete is not AnomalyDetector.complete

    @staticmethod
    def configure_pre_processor(image_size: tuple[int, int] | None = None) -> Any:
        """Resizing only: normalisation lies inside the detector."""
        return PreProcessor(transform=Compose([Resize(image_size or (128, 128), antialias=True)]))

    @property
    def trainer_arguments(self) -> dict[str, Any]:
        """What anomalib's trainer is told: the step clips gradients itself, and there is no score before training."""
        return {"gradient_clip_val": 0, "num_sanity_val_steps": 0, "devices": 1}

    @property
    def learning_type(self) -> Any:
        """One class: normal images only."""
        return LearningType.ONE_CLASS

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """The recipe's."""
        return make_optimizer(self.trained, self.recipe.training)

    def setup(self, stage: str) -> None:
        """Look at the normal images before training, as `robustad fit` does."""
        if stage != "fit":
            return
        seen, total = [], 0
        with isolated_randomness(derive_seed(self.recipe.training.seed, "prepare")):  # loaders draw the order
            for images, paths in self._training_images():
                seen.append(images)
                for path in paths:
                    self._numbers.setdefault(path, len(self._numbers))
                total += len(images)
                if total >= MAX_PREPARED:
                    break
        self._normals = torch.cat(seen)
        if self.hparams["adapt"]:
            config = self.recipe.model_for(self._normals)
            self._build(config, blank=False)
            self.trained.prepare(
                self._normals, sources=torch.arange(len(self._normals)), seed=self.recipe.training.seed
            )
            self._renew()  # with what was prepared
            self.hparams.update(adapt=False, model=config.to_dict())

    def _training_images(self) -> Iterator[tuple[Tensor, list[str]]]:
        datamodule = getattr(self.trainer, "datamodule", None)
        if datamodule is None:
            raise ValueError("robustad's module needs a datamodule to fit: engine.fit(model, datamodule=...)")
        for batch in datamodule.train_dataloader():
            images = batch.image if self.pre_processor is None else self.pre_processor(batch.image)
            yield images.to(self.device), [str(path) for path in batch.image_path]

    def on_train_start(self) -> None:
        """Make the recipe's method, now that the weights are those that training begins with.

        Raises:
            ValueError: If nobody knows how long the training is.
        """
        if self._total(1) is None:
            raise ValueError(
                "learning rate and attack radius follow the length of a training: give the engine `max_epochs` or "
                "`max_steps`"
            )
        generator = self.recipe.make_generator()
        self._method = self.recipe.make_method(self.trained, generator, self._normals.to(self.device))

    def training_step(self, batch: Any, *args: Any) -> dict[str, Tensor]:
        """One update, or as many as the recipe replays a batch for.

        Returns:
            ``loss``: what the last update minimised; it has been stepped already.
        """
        del args  # the number of the batch
        training, images = self.recipe.training, batch.image
        numbers = [self._numbers.setdefault(str(path), len(self._numbers)) for path in batch.image_path]
        seeds = [derive_seed(training.seed, "sample", self.current_epoch, number) for number in numbers]
        foreground = torch.ones(len(images), *images.shape[-2:], dtype=torch.bool, device=images.device)
        ours = Batch(images.as_subclass(Tensor), foreground, seeds, numbers)
        ours = augment(ours) if training.augment else ours
        for _ in range(training.updates_per_batch):
            losses = self._update(ours)
        self.log("train_loss", losses.total, prog_bar=True, batch_size=len(images))
        return {"loss": losses.total}

    def _update(self, batch: Batch) -> Losses:
        training, optimizer = self.recipe.training, self.optimizers()
        step: int = self.global_step
        assert self._method is not None
        steps = self.trainer.num_training_batches * training.updates_per_batch
        context = StepContext(step, self._total(steps), self.current_epoch, _NO_FABRIC)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(training, context, steps)
        self.trained.train()
        optimizer.zero_grad()
        with isolated_randomness(derive_seed(training.seed, "step", step)):
            losses = self._method.loss(self.trained, batch, context).backward(self.manual_backward)
            if not bool(losses.total.isfinite()):
                raise TrainingError(f"the loss is {float(losses.total)} at step {step}; try a lower `learning_rate`")
            self._method.after_backward()
        if training.gradient_clip:
            nn.utils.clip_grad_norm_(self.trained.parameters(), training.gradient_clip)
        optimizer.step()
        self.average.update(self.trained, step)
        return losses

    def _total(self, steps_per_epoch: int) -> int | None:
        """Updates of the whole run; None = it has no end."""
        by_epochs, limit = self.trainer.max_epochs, self.trainer.max_steps
        total = steps_per_epoch * by_epochs if by_epochs and by_epochs > 0 else None
        return total if limit < 0 else min(limit, total or limit)

    def on_train_epoch_end(self) -> None:
        """Complete the detector, before a checkpoint is written."""
        self._complete()

    def on_validation_start(self) -> None:
        """Complete the detector: without, COBRA has no score."""
        self._complete()

    def _complete(self) -> None:
        fitting = self.trainer.state.fn == "fit"
        if not self._remembers or self._completed_at == self.global_step or not fitting:
            return
        with torch.inference_mode(False), isolated_randomness(self.recipe.training.seed):
            self.detector.complete(images for images, _ in self._training_images())
        self._completed_at = self.global_step
        self.hparams.update(model=self.detector.config.to_dict())

    def on_fit_end(self) -> None:
        """Let go of what only training needs."""
        self._method, self._normals = None, torch.empty(0)

    def validation_step(self, batch: Any, *_: Any) -> Any:
        """Scores and maps, for anomalib's threshold and scaling."""
        return batch.update(**self.model(batch.image)._asdict())

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Become the detector that the checkpoint holds: its memory has a size of its own."""
        super().on_load_checkpoint(checkpoint)
        stored = checkpoint.get("hyper_parameters", {})
        if stored.get("model") != self.hparams["model"]:
            self._build(built_recipe(stored["recipe"], stored["model"], stored["training"]).model, blank=True)
            self.hparams.update(adapt=False, model=stored["model"])


def built_recipe(
    name: str, model: Mapping[str, Any] | None = None, training: Mapping[str, Any] | None = None
) -> Recipe:
    """A recipe for images of one's own, with other options of its architecture and training.

    Raises:
        ValueError: If a name or an option does not exist or does not fit.
    """
    chosen = recipe(name).for_data(None)
    return dataclasses.replace(
        chosen,
        model=type(chosen.model).from_dict({**chosen.model.to_dict(), **(model or {})}),
        training=type(chosen.training).from_dict({**chosen.training.to_dict(), **(training or {})}),
    )


def wrapped(
    what: str | AnomalyDetector, model: Mapping[str, Any] | None, training: Mapping[str, Any] | None
) -> RobustadModule:
    """See `robustad.adapters.as_anomalib`."""
    options = None if training is None else dict(training)
    if isinstance(what, str):
        return RobustadModule(what, None if model is None else dict(model), options)
    if model is not None:
        raise ValueError("`model` goes with the name of a recipe; a detector has an architecture already")
    if what.name not in FIRST_RECIPES:
        known = " and ".join(FIRST_RECIPES)
        raise ValueError(f"a {what.name} detector is not trained; {known} are what anomalib can train")
    module = RobustadModule(FIRST_RECIPES[what.name], what.config.to_dict(), options, adapt=False)
    for detector in (module.trained, module.detector):
        detector.load_state_dict(what.state_dict())
    module.eval()
    return module
