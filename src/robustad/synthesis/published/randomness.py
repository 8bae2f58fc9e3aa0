"""The three random streams of the published generator, passed explicitly instead of living in global state."""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch

from robustad._random import derive_seed, torch_generator


@dataclass(frozen=True)
class PublishedRandom:
    """Python's, NumPy's (legacy) and torch's stream, each drawn from in the order in which the released code draws.

    Attributes:
        python: Geometry, choice and strength of the distortions, rotation.
        numpy: Severity level, colours, end points of lines.
        torch: Colour jitter.
    """

    python: random.Random
    numpy: np.random.RandomState
    torch: torch.Generator

    @classmethod
    def from_seed(cls, seed: int) -> PublishedRandom:
        """The streams that seeding the three libraries globally with ``seed`` would give (0 to 2**32 - 1)."""
        return cls(random.Random(seed), np.random.RandomState(seed), torch.Generator().manual_seed(seed))

    @classmethod
    def for_sample(cls, seed: int, epoch: int, sample: int) -> PublishedRandom:
        """Streams of one image in one epoch; they do not depend on batches, workers or the order of the data."""
        parts = ("published", epoch, sample)
        return cls(
            random.Random(derive_seed(seed, *parts, "python")),
            np.random.RandomState(derive_seed(seed, *parts, "numpy") % 2**32),
            torch_generator(seed, *parts, "torch"),
        )


def sample_randoms(seed: int, epoch: int, samples: Iterable[int]) -> list[PublishedRandom]:
    """One `PublishedRandom` for each of the ``samples`` (indices in the data set) of a batch."""
    return [PublishedRandom.for_sample(seed, epoch, int(sample)) for sample in samples]
