"""Images of a dataset as batches of floats, in order."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from robustad._progress import Progress
from robustad.data import ImageDataset


def stack(dataset: ImageDataset, indices: Sequence[int] | None = None) -> tuple[Tensor, Tensor]:
    """Images ``(N, 3, S, S)`` in [0, 1] and foregrounds ``(N, S, S)`` of some samples; None = of all."""
    items = [dataset[i] for i in (range(len(dataset)) if indices is None else indices)]
    images = torch.stack([item["image"] for item in items]).float() / 255
    return images, torch.stack([item["foreground"] for item in items])


def batches(dataset: ImageDataset, description: str, *, size: int = 16) -> Iterator[Tensor]:
    """Images ``(n, 3, S, S)`` in [0, 1], batch by batch, under a progress bar that appears with the first one."""
    with Progress(description, len(dataset), unit="images") as shown:
        for start in range(0, len(dataset), size):
            images = stack(dataset, range(start, min(start + size, len(dataset))))[0]
            yield images
            shown.update(len(images))
