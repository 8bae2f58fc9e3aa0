"""JPEG and back."""

from __future__ import annotations

import io

import numpy as np
import torch
from PIL import Image
from torch import Tensor


def recoded(image: Tensor, quality: int) -> Tensor:
    """Encode ``(3, H, W)`` in [0, 1] as JPEG, and decode it."""
    pixels = (image.clamp(0, 1) * 255).round().to(torch.uint8).permute(1, 2, 0).cpu().numpy()
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="JPEG", quality=quality)
    decoded = np.asarray(Image.open(buffer), dtype=np.float32) / 255
    return torch.from_numpy(decoded).permute(2, 0, 1).to(image)
