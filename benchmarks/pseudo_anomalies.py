"""Claim "pseudo-anomalies": how many images per second the generators change, on one thread, and whether it matters.

The default generator is measured against the published one, once as described (`benchmarks.literal_generator`) and once
as we have it; and an update of the default recipe against reading, varying, pseudo-anomalies and random starts of its
images, which must never hold it up.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import count, islice
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from benchmarks.timing import alternate
from robustad._extras import require
from robustad.detectors import PatchGuard
from robustad.evaluation import BenchmarkRow
from robustad.synthesis import PseudoAnomalies
from robustad.synthesis.published import PublishedConfig, PublishedGenerator, PublishedRandom, bounds_for
from robustad.training import Batches, ReplayMethod, Schedule, StepContext, make_fabric, recipe

SIZES, BATCH = (224, 128), 16  # the published recipe's size, and the default one's; both have this batch
Maker = Callable[[list[int]], tuple[Tensor, Tensor]]
"""Makes the anomalies of these seeds, one per image."""


def measure(*, quick: bool) -> list[BenchmarkRow]:
    """Crops of two photographs; the generators do not make the same images: the default's regions are larger."""
    require("cv2", "published").setNumThreads(1)
    rounds = 9 if quick else 41
    rows = [row for size in SIZES for row in _generators(size, rounds)]
    return [*rows, _share_of_an_update(SIZES[1], rounds)]


def _generators(size: int, rounds: int) -> list[BenchmarkRow]:
    literal, port, default = makers(size)
    for wanted, made in zip(literal(list(range(BATCH))), port(list(range(BATCH))), strict=True):
        if not torch.equal(wanted, made):
            raise RuntimeError("the literal generator and ours make different images; nothing was timed")
    released = "published generator as released"
    pairs = {
        f"{released} against the default one": (literal, default),
        "our port of the published generator against the default one": (port, default),
        f"{released} against a copy of images and masks, the bound of any generator": (literal, _copier(size)),
    }
    return [
        alternate(_with_new_seeds(rival), _with_new_seeds(ours), rounds=rounds).row(
            f"pseudo-anomalies at {size} px: {claim}", per=BATCH, unit="images/s"
        )
        for claim, (rival, ours) in pairs.items()
    ]


def _copier(size: int) -> Maker:
    """Changes nothing: no generator that leaves its images alone takes less."""
    images = torch.rand(BATCH, 3, size, size, generator=torch.Generator().manual_seed(0))
    masks = torch.zeros(BATCH, size, size, dtype=torch.bool)
    return lambda _seeds: (images.clone(), masks.clone())


def makers(size: int) -> tuple[Maker, Maker, Maker]:
    """The published generator as described, as we have it, and the default one, on the same images."""
    from benchmarks.literal_generator import generate  # needs the extra `published`

    pixels = photographs(BATCH, size)
    images = torch.from_numpy(pixels).permute(0, 3, 1, 2).float().div(255).contiguous()  # (N,H,W,3) -> (N,3,H,W)
    foreground = torch.ones(BATCH, size, size, dtype=torch.bool)
    lower, upper = bounds_for("photographs", None, size)
    published, default = PublishedGenerator(PublishedConfig(lower=lower, upper=upper)), PseudoAnomalies()

    def literally(seeds: list[int]) -> tuple[Tensor, Tensor]:
        randoms = [PublishedRandom.from_seed(seed) for seed in seeds]
        made, masks = generate(images, foreground[:, None].float(), randoms, lower)
        return made, masks[:, 0] > 0

    def as_port(seeds: list[int]) -> tuple[Tensor, Tensor]:
        return published(pixels, foreground.numpy(), [PublishedRandom.from_seed(seed) for seed in seeds])

    return literally, as_port, lambda seeds: default(images, foreground, seeds=seeds)


def _with_new_seeds(make: Maker) -> Callable[[], object]:
    """Other anomalies each time, the same ones for every rival."""
    numbers = count()

    def call() -> object:
        start = BATCH * next(numbers)
        return make(list(range(start, start + BATCH)))

    return call


def _share_of_an_update(size: int, rounds: int) -> BenchmarkRow:
    """The updates that the default recipe makes of one batch, against all that is done to get the next one."""
    chosen = recipe("default")
    config, updates = chosen.training, chosen.training.replays
    pixels = torch.from_numpy(photographs(BATCH, size)).permute(0, 3, 1, 2).contiguous()  # (N,H,W,3) -> (N,3,H,W)
    images, foreground = pixels.float() / 255, torch.ones(BATCH, size, size, dtype=torch.bool)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        detector = chosen.detector_class(chosen.model_for(images)).train()
    assert isinstance(detector, PatchGuard) and detector.image_size == size and config.batch_size == BATCH
    detector.prepare(images, sources=torch.arange(BATCH))
    one, other = (chosen.make_method(detector, PseudoAnomalies(), images) for _ in range(2))
    assert isinstance(other, ReplayMethod)
    items: Any = [{"image": image, "foreground": area} for image, area in zip(pixels, foreground, strict=True)]
    schedule = Schedule(BATCH, BATCH, seed=0, replays=updates)
    stream = Batches(items, schedule, augment=config.augment).start_at(0)
    batch, fabric, steps = next(stream), make_fabric(config), count()
    optimizer = torch.optim.AdamW(detector.parameters(), lr=0.0, fused=True)

    def update() -> None:
        for step in islice(steps, updates):
            optimizer.zero_grad()
            one.loss(detector, batch, StepContext(step, 10**9, 0, fabric)).backward()
            one.after_backward()
            optimizer.step()

    def next_batch() -> None:
        *_, found = islice(stream, updates)  # one batch for all of them
        other.begin(found, torch.device("cpu"))

    pair = alternate(update, next_batch, rounds=rounds)
    claim = f"pseudo-anomalies at {size} px: update of the default recipe against its share of all work on data"
    return pair.row(claim, per=updates, unit="updates/s")


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
