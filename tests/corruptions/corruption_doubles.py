"""Images to corrupt."""

import torch
from torch.nn import functional as F


def images(count=4, size=64):
    """Smooth shapes with some texture, neither black nor white."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(count, 3, 6, 6, generator=generator)
    x = F.interpolate(coarse, size=(size, size), mode="bicubic", align_corners=False)
    return (0.25 + 0.5 * x + 0.005 * torch.randn(x.shape, generator=generator)).clamp(0.02, 0.98)
