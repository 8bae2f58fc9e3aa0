"""The pixels that a pseudo-anomaly changes, as a list: what lies elsewhere in the image costs nothing."""

from __future__ import annotations

import dataclasses
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from robustad.synthesis.draws import Floats, Window
from robustad.synthesis.shapes import FAINT, Cover

Index = NDArray[np.intp] | slice


@dataclasses.dataclass(frozen=True)
class Region:
    """K pixels of one image of H x W.

    Attributes:
        image: The image ``(3, H * W)``.
        size: Height and width of it.
        window: A window that holds the pixels.
        local: Which of the window's pixels they are, row by row; a slice if all of the image's.
        index: Which of the image's pixels they are, row by row; a slice if all.
        alpha: How much of the new content each of them gets, ``(K,)`` in (0, 1].
    """

    image: Floats
    size: tuple[int, int]
    window: Window
    local: Index
    index: Index
    alpha: Floats

    @classmethod
    def of_cover(cls, image: Floats, size: tuple[int, int], cover: Cover) -> Region:
        """The pixels that a shape covers."""
        (height, width), window, alpha = size, cover.window, cover.alpha.reshape(-1)
        covered = alpha > FAINT
        if np.count_nonzero(covered) == height * width:
            return cls(image, size, window, slice(None), slice(None), alpha)
        local = np.flatnonzero(covered)
        columns = window.right - window.left
        index = local
        if columns < width:  # each of the window's rows above adds what of the image lies beside it
            index = local // columns
            index *= width - columns
            index += local
        if window.top or window.left:
            index = index + (window.top * width + window.left)
        return cls(image, size, window, local, index, alpha[local])

    @cached_property
    def before(self) -> Floats:
        """Their colours ``(3, K)``; not to be written to."""
        return self.image if isinstance(self.index, slice) else np.take(self.image, self.index, axis=1)

    def put(self, values: Floats) -> None:
        """Write other colours ``(3, K)`` into the image."""
        for channel, numbers in zip(self.image, values, strict=True):  # NumPy is quick with one axis only
            channel[self.index] = numbers
