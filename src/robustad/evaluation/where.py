"""Which pixels of an image an attack may change."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from robustad.foreground import decide


def allowed_pixels(images: Tensor, where: str) -> Tensor | None:
    """Pixels that may change ``(N, S, S)``, bool; None = all of them.

    Args:
        images: ``(N, 3, S, S)`` in [0, 1].
        where: ``everywhere``, ``background`` or ``foreground``, told apart in each image by itself; an image that shows
            no object before a ground is foreground everywhere.
    """
    if where == "everywhere":
        return None
    pictures = images.mul(255).round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()  # (N,3,S,S) -> (N,S,S,3)
    masks = np.stack([decide(picture).mask for picture in pictures])
    found = torch.from_numpy(masks).to(images.device)
    return found if where == "foreground" else ~found
