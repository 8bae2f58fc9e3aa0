"""Claim "pseudo-anomalies": how many images per second the two generators change, on one thread."""

from __future__ import annotations

from itertools import count

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.timing import alternate
from robustad._extras import require
from robustad.evaluation import BenchmarkRow
from robustad.synthesis import PseudoAnomalies
from robustad.synthesis.published import PublishedConfig, PublishedGenerator, PublishedRandom, bounds_for

SIZES, BATCH = (224, 128), 16  # the published recipe's size, and the default one's


def measure(*, quick: bool) -> list[BenchmarkRow]:
    """Published generator (bit for bit as released) against the vectorised default, on crops of two photographs.

    They do not make the same images: the default's regions are of other shapes, and larger.
    """
    require("cv2", "published").setNumThreads(1)
    return [_measure(size, rounds=9 if quick else 41) for size in SIZES]


def _measure(size: int, *, rounds: int) -> BenchmarkRow:
    pixels = photographs(BATCH, size)
    images = torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255  # (N,H,W,3) -> (N,3,H,W)
    foreground = torch.ones(BATCH, size, size, dtype=torch.bool)
    lower, upper = bounds_for("photographs", None, size)
    published, default = PublishedGenerator(PublishedConfig(lower=lower, upper=upper)), PseudoAnomalies()
    seeds, others = count(), count()

    def as_published() -> object:
        start = BATCH * next(seeds)
        randoms = [PublishedRandom.from_seed(start + i) for i in range(BATCH)]
        return published(pixels, foreground.numpy(), randoms)

    def as_default() -> object:
        start = BATCH * next(others)
        return default(images, foreground, seeds=range(start, start + BATCH))

    claim = f"pseudo-anomalies at {size} px: published generator against the default one"
    return alternate(as_published, as_default, rounds=rounds).row(claim, per=BATCH, unit="images/s")


def photographs(number: int, size: int) -> NDArray[np.uint8]:
    """Crops ``(number, size, size, 3)`` of scikit-learn's two sample photographs."""
    from sklearn.datasets import load_sample_images

    sources, rng = load_sample_images().images, np.random.default_rng(0)
    crops = []
    for index in range(number):
        picture = sources[index % len(sources)]
        top, left = (int(rng.integers(0, side - size + 1)) for side in picture.shape[:2])
        crops.append(picture[top : top + size, left : left + size])
    return np.stack(crops)
