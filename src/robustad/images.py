"""Reading pictures and masks from disk: any Pillow format, bit depth and orientation in, plain uint8 arrays out.

Conventions, chosen once for every reader of the package:

- EXIF orientation is applied. Of a file with many pages the first is taken.
- 16-bit greys are divided by 65535, never cut to their low byte. Float greys are divided by the first of 1, 255 and
  65535 that covers them but for a hundredth, which is cut off (resizing and flat fields overshoot); ranges beyond that,
  or further below zero, are stretched from minimum to maximum.
- Transparent pixels are laid on black, so that colours hidden under full transparency do not show.
- Any failure is an `ImageError` of one line that names the file, the fault and the remedy; no warning leaks.
"""

from __future__ import annotations

import os
import struct
import threading
import warnings
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from robustad.errors import ImageError, LayoutError

ByteArray = NDArray[np.uint8]
BoolArray = NDArray[np.bool_]
Result = TypeVar("Result")

IMAGE_EXTENSIONS = (".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
_FORMATS = ("PNG", "JPEG", "BMP", "DIB", "GIF", "PPM", "TIFF", "WEBP", "JPEG2000", "TGA")
"""What a file may hold, whatever it is called; of others some would be handed to a program, as PostScript is."""
MAX_PIXELS = 100_000_000
NEARLY_BLACK = 16
"""Where no value of 255 is above this one, there is next to nothing to see: 12-bit greys in a 16-bit file end here."""

# What Pillow's decoders raise on broken files, besides its own classes.
_DECODER_ERRORS = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    EOFError,
    ArithmeticError,
    RuntimeError,
    struct.error,
    zlib.error,
)


class _WithoutWarnings:
    """A block without warnings that threads may be in at the same time; the last to leave restores the filters."""

    def __init__(self) -> None:
        self._lock, self._inside, self._filters = threading.Lock(), 0, warnings.catch_warnings()

    def __enter__(self) -> None:
        with self._lock:
            if not self._inside:
                self._filters = warnings.catch_warnings()
                self._filters.__enter__()
                warnings.simplefilter("ignore")
            self._inside += 1

    def __exit__(self, *_error: object) -> None:
        with self._lock:
            self._inside -= 1
            if not self._inside:
                self._filters.__exit__(None, None, None)


_without_warnings = _WithoutWarnings()
_OVERSHOOT = 0.01
_LOSSY = ("JPEG", "MPO", "WEBP")  # a grey mask has colours there, too
_DEEP_MODES = ("I", "F", "I;16", "I;16L", "I;16B", "I;16N")


def list_images(folder: str | Path, *, recursive: bool = False) -> list[Path]:
    """Image files of a folder, sorted by their path in POSIX form, the same on every file system.

    Extensions are compared without case; hidden files and files in hidden folders are left out.

    Args:
        folder: The folder to look into.
        recursive: Whether to descend into sub-folders.

    Raises:
        LayoutError: If the folder does not exist or is not a folder, or a folder in it may not be read.
    """
    base = Path(folder)
    if not base.is_dir():
        raise LayoutError(f"folder {base} {'is not a folder' if base.exists() else 'does not exist'}; check the path")
    found: list[Path] = []
    for place, folders, names in os.walk(base, onerror=_refuse):
        folders[:] = [name for name in folders if recursive and not name.startswith(".")]
        found += [path for name in names if _is_visible_image(path := Path(place, name))]
    return sorted(found, key=lambda path: path.relative_to(base).as_posix())


def _refuse(error: OSError) -> None:
    raise LayoutError(f"folder {error.filename} cannot be read: {error.strerror}; change its permissions") from error


def _is_visible_image(path: Path) -> bool:
    return path.suffix.lower() in IMAGE_EXTENSIONS and not path.name.startswith(".") and path.is_file()


def read_image(path: str | Path, *, max_pixels: int = MAX_PIXELS) -> ByteArray:
    """Read one picture as RGB.

    Args:
        path: Image file; see the module's text for how depths, palettes and transparency are treated.
        max_pixels: Pictures with more pixels are refused before they are decoded.

    Returns:
        uint8 array ``(H, W, 3)``.

    Raises:
        ImageError: If the file is missing, empty, truncated, not an image, or too large.
    """
    return _read(Path(path), _to_rgb, max_pixels)


def read_square(path: str | Path, size: int, *, max_pixels: int = MAX_PIXELS) -> ByteArray:
    """What `resize_image` makes of `read_image`, without the full-size array between them.

    Args:
        path: Image file.
        size: Side of the square in pixels.
        max_pixels: See `read_image`.

    Returns:
        uint8 array ``(size, size, 3)``.

    Raises:
        ImageError: See `read_image`.
    """
    square = lambda image: np.array(_square(_rgb(image), size), dtype=np.uint8)  # noqa: E731
    return _read(Path(path), square, max_pixels)


def read_mask(path: str | Path, *, max_pixels: int = MAX_PIXELS) -> ByteArray:
    """Read one mask as raw grey values; 1-bit masks become 0 and 255, and so do masks of colours: all but black is 255.

    Values of grey masks are kept as stored (a mask of 0 and 1 stays so): `binarise_mask` decides what is anomalous. In
    masks deeper than 8 bit no non-zero value is rounded to zero.

    Args:
        path: Mask file.
        max_pixels: Masks with more pixels are refused before they are decoded.

    Returns:
        uint8 array ``(H, W)``.

    Raises:
        ImageError: If the file is missing, empty, truncated, not an image, or too large.
    """
    return _read(Path(path), _to_grey, max_pixels)


def binarise_mask(mask: ByteArray) -> BoolArray:
    """Which pixels of a mask count: values above 127; if the mask has none, every non-zero value.

    So blurred or JPEG-compressed masks of 0 and 255 do not grow, and masks that store 1, 2, 3 for kinds of defects
    still count in full.

    Args:
        mask: Grey values ``(H, W)``, uint8.

    Returns:
        bool array ``(H, W)``.
    """
    bright = mask > 127
    return bright if bright.any() else mask > 0


def resize_image(array: ByteArray, size: int) -> ByteArray:
    """Resize an RGB picture straight to a square, without keeping its aspect, with the LANCZOS filter.

    Args:
        array: uint8 ``(H, W, 3)``.
        size: Side of the square in pixels.

    Returns:
        uint8 array ``(size, size, 3)``.
    """
    if array.shape[:2] == (size, size):
        return array.copy()
    return np.array(_square(Image.fromarray(array), size), dtype=np.uint8)


def _square(image: Image.Image, size: int) -> Image.Image:
    return image.resize((size, size), Image.Resampling.LANCZOS)


def resize_mask(array: ByteArray, size: int, *, published: bool = False) -> BoolArray:
    """Resize a mask to a square.

    Args:
        array: Grey values ``(H, W)``, uint8.
        size: Side of the square in pixels.
        published: Follow the released PatchGuard code: LANCZOS on the grey values, then everything that is not zero.
            That widens masks (by half a filter on each side) and is kept for comparable tables only.

    Returns:
        bool array ``(size, size)``. By default the nearest source pixel of each centre, after `binarise_mask`; a mask
        that was not empty stays so, however small it is.
    Source: official PatchGuard code (commit af39835) for ``published``. Deviates by default, see above.
    """
    if published:
        return np.asarray(Image.fromarray(array).resize((size, size), Image.Resampling.LANCZOS)) > 0
    mask = binarise_mask(array)
    height, width = mask.shape
    rows, columns = _centres(height, size), _centres(width, size)
    small = mask[np.ix_(rows, columns)]
    if not small.any() and mask.any():  # every marked pixel fell between the sampled centres
        marked_rows, marked_columns = np.nonzero(mask)
        small[marked_rows * size // height, marked_columns * size // width] = True
    return small


def resize_foreground(array: ByteArray, size: int, *, published: bool = False) -> BoolArray:
    """Resize a foreground mask to a square, taking the nearest source pixel of each centre.

    Args:
        array: Grey values ``(H, W)``, uint8.
        size: Side of the square in pixels.
        published: Only the value 255 is foreground, as in the released PatchGuard code; else see `binarise_mask`.

    Returns:
        bool array ``(size, size)``.
    """
    if published:
        small: BoolArray = np.asarray(Image.fromarray(array).resize((size, size), Image.Resampling.NEAREST)) == 255
        return small
    mask = binarise_mask(array)
    return mask[np.ix_(_centres(mask.shape[0], size), _centres(mask.shape[1], size))]


def _centres(length: int, size: int) -> NDArray[np.intp]:
    # integers throughout: floor((i + 0.5) * length / size) without a rounding error
    return (2 * np.arange(size, dtype=np.intp) + 1) * length // (2 * size)


def _read(path: Path, convert: Callable[[Image.Image], Result], max_pixels: int) -> Result:
    if path.is_dir():
        raise ImageError(f"{path} is a folder, not an image; pass the path of a file")
    if not path.exists():
        raise ImageError(f"{path} does not exist; check the path")
    if path.stat().st_size == 0:
        raise ImageError(f"{path} is empty (0 bytes); copy or download it again")
    try:
        with _without_warnings, Image.open(path, formats=_FORMATS) as image:
            _check_pixels(path, image.size, max_pixels)
            return convert(image)
    except ImageError:
        raise
    except Image.DecompressionBombError as error:
        raise ImageError(f"{path} declares more than {max_pixels:,} pixels; crop or shrink it first") from error
    except UnidentifiedImageError as error:
        known = ", ".join(name for name in _FORMATS if name != "DIB")
        raise ImageError(
            f"{path} is not an image that can be read ({known}); remove, convert or copy it again"
        ) from error
    except PermissionError as error:
        raise ImageError(f"{path} may not be read; change its permissions") from error
    except MemoryError as error:
        raise ImageError(f"{path} does not fit into memory; crop or shrink it first") from error
    except _DECODER_ERRORS as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ImageError(f"{path} is damaged or cut off ({reason}); copy or download it again") from error


def _check_pixels(path: Path, size: tuple[int, int], max_pixels: int) -> None:
    width, height = size
    if width < 1 or height < 1:
        raise ImageError(f"{path} has no pixels ({width} x {height}); remove it")
    if width * height > max_pixels:
        raise ImageError(f"{path} has {width} x {height} pixels, more than {max_pixels:,}; crop or shrink it first")


def _to_rgb(image: Image.Image) -> ByteArray:
    return np.array(_rgb(image), dtype=np.uint8)


def _rgb(image: Image.Image) -> Image.Image:
    image.load()
    ImageOps.exif_transpose(image, in_place=True)
    if image.mode in _DEEP_MODES:
        return Image.fromarray(_scale_deep(np.asarray(image), image.mode)).convert("RGB")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, (0, 0, 0, 255)), image)
    return image if image.mode == "RGB" else image.convert("RGB")


def _to_grey(image: Image.Image) -> ByteArray:
    if image.mode in _DEEP_MODES:
        image.load()
        return _deep_mask(np.asarray(ImageOps.exif_transpose(image)))
    if image.mode in ("L", "1") and "transparency" not in image.info:
        image.load()
        return np.array(ImageOps.exif_transpose(image).convert("L"), dtype=np.uint8)
    lossy, colours = image.format in _LOSSY, _to_rgb(image)
    grey: ByteArray = colours.max(axis=2)
    if not lossy and (grey > colours.min(axis=2)).any():  # classes by colour, dark ones among them
        grey[grey > 0] = 255
    return grey


def _scale_deep(values: NDArray[Any], mode: str) -> ByteArray:
    numbers = _finite(values)
    low, high = float(numbers.min()), float(numbers.max())
    covers, excess = ((1.0, 255.0, 65535.0), _OVERSHOOT) if mode == "F" else ((65535.0,), 0.0)
    top = next((cover for cover in covers if high <= (1 + excess) * cover), None)
    if top is None or low < -excess * high:
        numbers, top = np.subtract(numbers, low, out=numbers), (high - low) or 1.0
    numbers *= 255.0 / top
    return np.rint(np.clip(numbers, 0, 255, out=numbers), out=numbers).astype(np.uint8)


def _deep_mask(values: NDArray[Any]) -> ByteArray:
    numbers = np.abs(_finite(values))
    if numbers.max() > 255:
        numbers = numbers * (255.0 / numbers.max())
    elif 0 < numbers.max() <= 1:  # floats in [0, 1] and masks of 0 and 1 alike
        numbers = numbers * 255.0
    return np.ceil(numbers).clip(0, 255).astype(np.uint8)  # the largest may be rounded to a little more than 255


def _finite(values: NDArray[Any]) -> NDArray[np.float32]:
    numbers = values.astype(np.float32)  # a copy, which may be changed; large pictures are read by several threads
    if not np.isfinite(numbers).all():
        raise ValueError("it holds NaN or infinite values")
    return numbers
