"""Reading files ahead of the model, in order, within bounds."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Generic, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from robustad._ahead import ahead
from robustad._checks import check_at_least
from robustad.errors import ImageError
from robustad.images import read_image, read_square, resize_image
from robustad.inference.sources import Source

Value = TypeVar("Value")
ByteArray = NDArray[np.uint8]


class Picture(NamedTuple):
    """One image as it is needed further on; the full-size one is dropped in the thread that read it.

    Attributes:
        pixels: Network input ``(S, S, 3)`` uint8.
        shown: For overlays: the image in its own shape, shrunk if large, ``(H, W, 3)`` uint8; None if not asked for.
    """

    pixels: ByteArray
    shown: ByteArray | None


class Read(NamedTuple, Generic[Value]):
    """What became of one source: a value, or an error of one line."""

    source: Source
    value: Value | None
    error: str | None


def picture_reader(image_size: int, *, shown_size: int = 0) -> Callable[[Path], Picture]:
    """A reader of pictures for a network.

    Args:
        image_size: Side S of the network's input, pixels.
        shown_size: Longest side of the copy for overlays, pixels; 0 = no copy.
    """

    def read(path: Path) -> Picture:
        if not shown_size:
            return Picture(read_square(path, image_size), None)
        image = read_image(path)
        return Picture(resize_image(image, image_size), shrink(image, shown_size))

    return read


def shrink(image: ByteArray, size: int) -> ByteArray:
    """The image ``(H, W, 3)`` with its longest side at most ``size`` pixels, aspect kept."""
    height, width = image.shape[:2]
    scale = size / max(height, width)
    if scale >= 1:
        return image
    small = (max(1, round(width * scale)), max(1, round(height * scale)))
    return np.asarray(Image.fromarray(image).resize(small, Image.Resampling.LANCZOS)).copy()


def read_ahead(
    sources: Iterable[Source], read: Callable[[Path], Value], *, num_workers: int = 2, window: int = 64
) -> Iterator[Read[Value]]:
    """Read sources in threads while the consumer works on earlier ones; results come in the order of the sources.

    A file that cannot be read is a result with an error, never an exception.

    Args:
        sources: Consumed lazily, at most ``window`` ahead.
        read: Reads one file; may raise ImageError, OSError or MemoryError.
        num_workers: Threads.
        window: Files in memory at most.
    """
    check_at_least("num_workers", num_workers, 1)
    check_at_least("window", window, 1)
    return ahead(partial(_attempt, read), sources, num_workers=num_workers, window=window)


def _attempt(read: Callable[[Path], Value], source: Source) -> Read[Value]:
    if source.error is not None:
        return Read(source, None, source.error)
    try:
        return Read(source, read(source.path), None)
    except ImageError as error:
        return Read(source, None, str(error))
    except OSError as error:
        return Read(source, None, f"{source.path} cannot be read: {error.strerror or error}; try again")
    except MemoryError:
        return Read(source, None, f"{source.path} does not fit into memory; shrink it first")
