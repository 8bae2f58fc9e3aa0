"""Pretraining: the default game, "free" attacks included, on tasks of procedural images."""

from __future__ import annotations

from statistics import fmean
from typing import Any

import torch
from torch import Tensor, nn

from robustad._devices import device_of, to_device
from robustad._random import derive_seed
from robustad.attacks import PGD, ImageObjective
from robustad.metrics import auroc
from robustad.training.batches import Batch
from robustad.training.engine import LOOK_FIGURE, Losses, StepContext
from robustad.training.generators import Generator
from robustad.training.patchguard import ReplayMethod
from robustad.training.tasks import SceneTasks, TaskDetector


class TaskMethod(ReplayMethod):
    """`ReplayMethod` on tasks: a batch holds, of each task, normal images to compare with and others to train on.

    Images of a batch are ``(G, R + tests, 3, S, S)``, its foreground ``(G, tests, S, S)``, its seeds one per task.
    """

    network: TaskDetector
    _references = torch.empty(0)

    def loss(self, network: Any, batch: Batch, context: StepContext) -> Losses:
        """See `Method.loss`."""
        tests = batch.foreground.shape[1]
        self._references = to_device(batch.images[:, :-tests], device_of(self.network))
        flat = Batch(
            batch.images[:, -tests:].flatten(0, 1),
            batch.foreground.flatten(0, 1),
            [derive_seed(seed, "test", number) for seed in batch.seeds for number in range(tests)],
        )
        return super().loss(network, flat, context)

    def begin(self, batch: Batch, device: torch.device) -> None:
        """See `ReplayMethod.begin`; images are compared with those of their own processes."""
        self.network.enter(self._references, len(batch.images) // len(self._references))
        super().begin(batch, device)


class TaskLook:
    """As `EarlyLook`, on tasks that are not trained on: the mean over tasks of each one's AUROC.

    Args:
        tasks: Tasks to look at.
        generator: Maker of pseudo-anomalies.
        epsilon: Radius of the attack.
        steps: Steps of the attack.
    """

    def __init__(self, tasks: SceneTasks, generator: Generator, *, epsilon: float, steps: int = 10) -> None:
        self.epsilon, self.attack = epsilon, PGD(steps=steps)
        self.tasks: list[tuple[Tensor, Tensor]] = []
        for number in range(len(tasks)):
            item = tasks[number]
            images = item["image"].float() / 255
            normal = images[tasks.references :]
            seeds = [derive_seed(tasks.seed, "look", number, place) for place in range(len(normal))]
            anomalous, _ = generator(normal, item["foreground"], seeds=seeds)
            self.tasks.append((images[: tasks.references], torch.cat([normal, anomalous])))

    def __call__(self, network: nn.Module) -> dict[str, float]:
        """Figures for the log."""
        assert isinstance(network, TaskDetector)
        training, device = network.training, network.mean.device
        network.eval()
        found: dict[str, list[float]] = {"look_AUROC": [], LOOK_FIGURE: []}
        try:
            for references, images in self.tasks:
                x, labels = images.to(device), torch.arange(len(images), device=device) >= len(images) // 2
                with network.within(references[None].to(device), 1):
                    worst = self.attack(ImageObjective(network, labels), x, epsilon=self.epsilon)
                    with torch.no_grad():
                        for name, seen in zip(found, (x, worst), strict=True):
                            found[name].append(auroc(network(seen).scores.cpu(), labels.cpu()))
        finally:
            network.train(training)
        return {name: fmean(values) for name, values in found.items()}
