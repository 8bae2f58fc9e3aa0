"""Small made problems for pretraining: some normal images of a procedural process, and others to judge by them.

A detector is trained on the normal images of one process. What can be learned beforehand is what holds for all of them:
that an anomaly differs from the normal images and from the rest of its image by more than these differ from each other.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from robustad._random import derive_seed
from robustad.backbones import ReferenceStem
from robustad.detectors import PatchGuard, PatchGuardConfig
from robustad.synthesis import scenes

_DARKEST = 4 / 255  # spread of pixels below which they are not stretched any further, as in a fit


class SceneTasks(Dataset[dict[str, Tensor]]):
    """Tasks by number: images of one procedural process each, normal ones to compare with first.

    Args:
        num_tasks: Tasks.
        size: Side of the images, pixels.
        references: Normal images to compare with, of each task.
        tests: Further images of each task, which anomalies are made from.
        seed: Seed of all tasks.

    Attributes:
        seconds: Time spent on making images in this process.
    """

    def __init__(self, num_tasks: int, size: int, *, references: int, tests: int, seed: int) -> None:
        self.num_tasks, self.size, self.references, self.tests = num_tasks, size, references, tests
        self.seed, self.seconds = seed, 0.0

    def __len__(self) -> int:
        return self.num_tasks

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        """``image``: uint8 ``(references + tests, 3, S, S)``; ``foreground``: bool ``(tests, S, S)``, everywhere."""
        return {
            "image": self._made(index),
            "foreground": torch.ones(self.tests, self.size, self.size, dtype=torch.bool),
        }

    def _made(self, index: int) -> Tensor:
        began, number = time.perf_counter(), self.references + self.tests
        images = scenes(derive_seed(self.seed, "task", index), number, self.size, instances=number)
        pixels = (images * 255).round_().to(torch.uint8)  # as a camera would deliver them
        self.seconds += time.perf_counter() - began
        return pixels


class Normals(NamedTuple):
    """What is known of the normal images of some tasks.

    Attributes:
        mean: Of each task's pixels ``(G, 1, 3, 1, 1)``.
        std: Their spread, likewise.
        stems: One per task, with its references; empty if the backbone compares with none.
        tests: Images of each task in a batch.
    """

    mean: Tensor
    std: Tensor
    stems: tuple[ReferenceStem, ...]
    tests: int

    def by_task(self, images: Tensor) -> Tensor:
        """A batch ``(r * G * tests, ...)`` as ``(r, G, tests, ...)``."""
        return images.reshape(-1, len(self.mean), self.tests, *images.shape[1:])


class TaskDetector(PatchGuard):
    """A PatchGuard detector whose normal images are others for each task of a batch.

    Batches are tasks times tests, in this order, or multiples of that. Parameters are those of `PatchGuard`; nothing of
    a task is part of the state.

    Args:
        config: Architecture; its ``mean`` and ``std`` are not used, each task has its own.
    """

    def __init__(self, config: PatchGuardConfig) -> None:
        super().__init__(dataclasses.replace(config, mean=(0.0,) * 3, std=(1.0,) * 3))
        self._normals: Normals | None = None
        self._stem: _TaskStem | None = None
        embed = self.features.vit.patch_embed
        if isinstance(getattr(embed, "stem", None), ReferenceStem):
            self._stem = _TaskStem(embed.stem)
            embed.stem = self._stem

    def enter(self, normals: Tensor, tests: int) -> None:
        """From now on, judge ``tests`` images of each task by its normal images ``(G, R, 3, S, S)`` in [0, 1]."""
        mean = normals.mean(dim=(1, 3, 4), keepdim=True)
        std = normals.std(dim=(1, 3, 4), keepdim=True).clamp_min(_DARKEST)
        stems = self._stem.fitted((normals - mean) / std, std) if self._stem else ()
        self._set(Normals(mean, std, stems, tests))

    @contextmanager
    def within(self, normals: Tensor, tests: int) -> Iterator[None]:
        """As `enter`, for a block; afterwards, the tasks of before are back."""
        before = self._normals
        self.enter(normals, tests)
        try:
            yield
        finally:
            self._set(before)

    def _set(self, normals: Normals | None) -> None:
        self._normals = normals
        if self._stem is not None:
            self._stem.normals = normals

    def normalise(self, images: Tensor) -> Tensor:
        """Pixels by their task's mean and spread."""
        assert self._normals is not None, "enter some tasks first"
        parts = self._normals.by_task(super().normalise(images))
        return ((parts - self._normals.mean) / self._normals.std).flatten(0, 2)


class _TaskStem(nn.Module):
    """The stem of each task in turn; it has no weights."""

    def __init__(self, like: ReferenceStem) -> None:
        super().__init__()
        self.pool, self.references, self.detail = like.pool, bool(like.num_references), like.detail
        self.normals: Normals | None = None

    def fitted(self, normals: Tensor, std: Tensor) -> tuple[ReferenceStem, ...]:
        """A stem per task, from normalised images ``(G, R, 3, S, S)`` and what they were divided by."""
        stems, count = [], normals.shape[1]
        for images, spread in zip(normals, std, strict=True):
            stem = ReferenceStem(
                images.shape[-1], pool=self.pool, num_references=count * self.references, detail=self.detail
            ).to(images.device)
            stem.fit(images, spread, torch.arange(count, device=images.device), seed=0)
            stems.append(stem)
        return tuple(stems)

    def forward(self, images: Tensor) -> Tensor:
        assert self.normals is not None
        tests, parts = self.normals.tests, self.normals.by_task(images)
        made = [stem(parts[:, number].flatten(0, 1)) for number, stem in enumerate(self.normals.stems)]
        split = [part.reshape(-1, tests, *part.shape[1:]) for part in made]  # (r * tests, ...) -> (r, tests, ...)
        return torch.stack(split, dim=1).flatten(0, 2)  # (r, G, tests, C, s, s) -> (N, C, s, s)
