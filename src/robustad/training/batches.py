"""Which images a step sees: a function of (seed, step) alone, so that a resumed run continues exactly."""

from __future__ import annotations

import signal
from collections.abc import Iterator, Sequence
from itertools import count
from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from robustad._random import derive_seed, torch_generator


class Batch(NamedTuple):
    """Normal images of one step.

    Attributes:
        images: ``(N, 3, S, S)`` in [0, 1].
        foreground: ``(N, S, S)`` bool, where pseudo-anomalies may lie.
        seeds: One per image, derived from (seed, epoch, sample).
        sources: Number of each image in the training set; empty = unknown.
    """

    images: Tensor
    foreground: Tensor
    seeds: list[int]
    sources: Sequence[int] = ()


class Schedule:
    """Shuffled batches, epoch by epoch, addressed by step.

    Args:
        num_samples: Training images.
        batch_size: Images per step, over all processes.
        seed: Seed of the run.
        replays: Consecutive steps that see the same samples.
        keep_partial: Keep the smaller last batch of an epoch (published); otherwise an epoch ends with the last full
            one. A set smaller than a batch is one batch.
        epoch_images: Images of an epoch, at least: a smaller set is gone through several times.
    """

    def __init__(
        self,
        num_samples: int,
        batch_size: int,
        *,
        seed: int,
        replays: int = 1,
        keep_partial: bool = False,
        epoch_images: int = 0,
    ) -> None:
        if num_samples < 1:
            raise ValueError("there is no normal image to train on")
        self.num_samples, self.length = num_samples, max(num_samples, epoch_images)
        self.batch_size, self.seed = min(batch_size, self.length), seed
        self.replays = replays
        self._order: tuple[int, Tensor] | None = None
        full, rest = divmod(self.length, self.batch_size)
        self.steps_per_epoch = (full + (1 if keep_partial and rest else 0)) * replays

    def epoch(self, step: int) -> int:
        """Epoch of a 0-based step."""
        return step // self.steps_per_epoch

    def indices(self, step: int) -> list[int]:
        """Sample numbers of a 0-based step."""
        epoch, places = self._places(step)
        if self._order is None or self._order[0] != epoch:
            generator = torch_generator(self.seed, "order", epoch)
            rounds = -(-self.length // self.num_samples)
            order = [torch.randperm(self.num_samples, generator=generator) for _ in range(rounds)]
            self._order = epoch, torch.cat(order)
        numbers: list[int] = self._order[1][places.start : places.stop].tolist()
        return numbers

    def seeds(self, step: int) -> list[int]:
        """One seed per sample of a step; another one each time that an epoch comes to the same sample."""
        epoch, places = self._places(step)
        rounds = [place // self.num_samples for place in places]
        return [
            derive_seed(self.seed, "sample", epoch, index, *([number] if number else []))
            for index, number in zip(self.indices(step), rounds, strict=True)
        ]

    def _places(self, step: int) -> tuple[int, range]:
        """Epoch of a step, and which of the epoch's images it sees."""
        epoch, position = divmod(step, self.steps_per_epoch)
        start = position // self.replays * self.batch_size
        return epoch, range(start, min(start + self.batch_size, self.length))


class _Steps:
    """Batch sampler of the steps from ``start`` on, without end; steps that see the same samples are one."""

    def __init__(self, schedule: Schedule, start: int, rank: int, world_size: int) -> None:
        self.schedule, self.start, self.rank, self.world_size = schedule, start, rank, world_size

    def __iter__(self) -> Iterator[list[int]]:
        step = self.start
        while True:
            yield self.schedule.indices(step)[self.rank :: self.world_size]
            step += self.schedule.replays


class Batches:
    """Iterates over the batches from a step on.

    Args:
        dataset: Items with ``image`` (uint8) and ``foreground`` (bool).
        schedule: Order of the samples.
        augment: Whether images are varied, see `augment`.
        rank: Number of this process; it gets every ``world_size``-th sample of each batch.
        world_size: Number of processes.
        num_workers: Reading processes.
    """

    def __init__(
        self,
        dataset: Dataset[object],
        schedule: Schedule,
        *,
        augment: bool = False,
        rank: int = 0,
        world_size: int = 1,
        num_workers: int = 0,
    ) -> None:
        self.dataset, self.schedule, self.augment = dataset, schedule, augment
        self.rank, self.world_size, self.num_workers = rank, world_size, num_workers

    def start_at(self, step: int) -> Iterator[Batch]:
        """Batches of step, step + 1, ...; never ends. Steps that see the same samples share one batch."""
        replays = self.schedule.replays
        sampler = _Steps(self.schedule, step - step % replays, self.rank, self.world_size)
        loader = DataLoader(
            self.dataset,
            batch_sampler=sampler,
            num_workers=self.num_workers,
            collate_fn=_collate,
            worker_init_fn=_ignore_interrupts,
            persistent_workers=self.num_workers > 0,
            generator=torch_generator(self.schedule.seed, "workers"),  # the loader must not draw from the global one
        )
        for first, (images, foreground) in zip(count(sampler.start, replays), loader, strict=False):
            mine = slice(self.rank, None, self.world_size)
            seeds, sources = self.schedule.seeds(first)[mine], self.schedule.indices(first)[mine]
            batch = Batch(images.to(torch.float32) / 255, foreground, seeds, sources)
            batch = augment(batch) if self.augment else batch
            for _ in range(max(first, step), first + replays):
                yield batch


def _ignore_interrupts(_worker: int) -> None:
    """Ctrl-C reaches all processes of a terminal; what it means is for the one that trains to say."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _collate(items: Sequence[dict[str, Tensor]]) -> tuple[Tensor, Tensor]:
    return torch.stack([item["image"] for item in items]), torch.stack([item["foreground"] for item in items])


def augment(batch: Batch) -> Batch:
    """Mirror (each axis with probability 1/2), and vary gain by +-5 % and offset by +-0.02, image by image."""
    images, foreground = batch.images.clone(), batch.foreground.clone()
    for i, seed in enumerate(batch.seeds):
        u = torch.rand(4, generator=torch_generator(seed, "augment")).tolist()
        axes = [axis for axis, number in ((1, u[0]), (2, u[1])) if number < 0.5]
        image = images[i].flip(axes) * (1 + 0.1 * (u[2] - 0.5)) + 0.04 * (u[3] - 0.5)
        images[i] = image.clamp(0, 1)
        foreground[i] = foreground[i].flip([axis - 1 for axis in axes])
    return batch._replace(images=images, foreground=foreground)
