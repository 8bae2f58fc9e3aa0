"""The table of ways to find the foreground of a picture."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from robustad.foreground import cam, classical
from robustad.foreground._clean import Mask


def whole_image(image: npt.NDArray[np.uint8]) -> Mask:
    """Everything is foreground: right for textures and for parts that fill the frame."""
    return np.ones(image.shape[:2], dtype=bool)


FOREGROUND: dict[str, Callable[[npt.NDArray[np.uint8]], Mask]] = {
    "classical": classical.foreground_mask,
    "cam": cam.foreground_mask,
    "none": whole_image,
}
