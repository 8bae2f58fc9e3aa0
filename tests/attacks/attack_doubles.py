"""Small differentiable detectors for attack tests."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from robustad.types import Prediction


class Toy(nn.Module):
    """Two convolutions: maps are their output, scores the maximum-like mean of the squared maps."""

    def __init__(self, seed: int = 0, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.first = nn.Parameter(torch.randn(8, 3, 3, 3, generator=generator, dtype=torch.float64).to(dtype) * 0.4)
        self.second = nn.Parameter(torch.randn(1, 8, 3, 3, generator=generator, dtype=torch.float64).to(dtype) * 0.4)

    def forward(self, images: Tensor) -> Prediction:
        hidden = torch.tanh(nn.functional.conv2d(images, self.first, padding=1))
        maps = nn.functional.conv2d(hidden, self.second, padding=1)[:, 0]
        return Prediction(maps.flatten(1).topk(5, dim=1).values.mean(1), maps)


def images(count: int = 5, *, size: int = 8, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    """Random images with some pixels exactly black and white, where the ball is cut off."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.rand(count, 3, size, size, generator=generator, dtype=torch.float64)
    return ((x - 0.5) * 1.4 + 0.5).clamp(0, 1).to(dtype)
