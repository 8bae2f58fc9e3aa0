"""Procedural images: what a network may learn from without anybody's photographs."""

from __future__ import annotations

import torch
from torch import Tensor

from robustad._checks import check_at_least
from robustad._random import derive_seed
from robustad.synthesis.scenes.camera import photographed
from robustad.synthesis.scenes.canvas import Canvas
from robustad.synthesis.scenes.patterns import PATTERNS

__all__ = ["PATTERNS", "scenes"]
_SMALLEST = 32
_SECOND = 0.55  # share of processes with a second, fainter pattern on the first


def scenes(seed: int, number: int, size: int, *, instances: int = 1) -> Tensor:
    """Images of procedural processes: textures, parts and circuits, lit and photographed.

    Args:
        seed: The same seed, number, size and instances give the same images.
        number: Images ``N``.
        size: Side of the images, pixels, at least 32.
        instances: Images of each process, which follow each other: they differ as parts of one line differ, from next
            to nothing to all but the kind of pattern. The last process may have fewer.

    Returns:
        Images ``(N, 3, S, S)`` in [0, 1].

    Raises:
        ValueError: If a number is too small.
    """
    check_at_least("number", number, 1)
    check_at_least("instances", instances, 1)
    check_at_least("size", size, _SMALLEST)
    starts = range(0, number, instances)
    return torch.cat(
        [_process(derive_seed(seed, "process", start), min(instances, number - start), size) for start in starts]
    )


def _process(seed: int, number: int, size: int) -> Tensor:
    canvas = Canvas(seed, number, size)
    brightness = _pattern(canvas)
    if canvas.chance(_SECOND):
        brightness = brightness + canvas.log(0.05, 0.5) * (_pattern(canvas) - 0.5)
    if canvas.chance(0.4):  # what no two images of a process have in common: stains, grain, wear that counts as normal
        brightness = brightness + canvas.log(0.01, 0.12) * canvas.field(3, 7, 14, slope=0.7, vary=1.0)
    return photographed(canvas, brightness)


def _pattern(canvas: Canvas) -> Tensor:
    names = list(PATTERNS)
    return PATTERNS[names[int(canvas.uniform(0, len(names)))]](canvas)
