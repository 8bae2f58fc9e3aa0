"""One dataset class for every layout, with an optional cache of decoded and resized pictures."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypedDict

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from robustad._ahead import ahead
from robustad._checks import check_at_least
from robustad._progress import progress
from robustad.data.samples import Box, Sample
from robustad.errors import ImageError
from robustad.files import atomic_path
from robustad.images import (
    ByteArray,
    read_image,
    read_mask,
    resize_foreground,
    resize_image,
    resize_mask,
)

_CACHE_VERSION = 2
_PLANES = 5  # red, green, blue, mask, foreground


class Item(TypedDict):
    """One sample as tensors; a default collate stacks them.

    Attributes:
        image: uint8 ``(3, S, S)``.
        mask: bool ``(S, S)``, True = anomalous; all False where nothing is known or nothing is anomalous.
        has_mask: False for an anomalous image whose anomalous pixels are not known.
        foreground: bool ``(S, S)``; all True without a foreground mask.
        label: True = anomalous.
        index: Position in ``samples``.
    """

    image: Tensor
    mask: Tensor
    has_mask: bool
    foreground: Tensor
    label: bool
    index: int


class ImageDataset(Dataset[Item]):
    """Samples of any layout, read from disk and resized straight to a square.

    With ``cache_dir`` all pictures are decoded once, into one memory-mapped file that is named by the content (path,
    size and modification time of every file) and the transform. It is written under another name and renamed, so that
    several processes may build it at once, and a half-written one is never read.

    Args:
        samples: What to read.
        image_size: Side S of the square in pixels.
        cache_dir: Folder for the cache file; None = decode at each access.
        published: Masks and foregrounds as in the released PatchGuard code; see `resize_mask` and `resize_foreground`.

    Raises:
        ImageError: When an image is read (with ``cache_dir``: at once) that is unreadable or whose mask does not fit.
    Source: official PatchGuard code (commit af39835) for ``published``.
    """

    def __init__(
        self,
        samples: Sequence[Sample],
        image_size: int,
        cache_dir: str | Path | None = None,
        *,
        published: bool = False,
    ) -> None:
        check_at_least("image_size", image_size, 1)
        self.samples = list(samples)
        self.image_size = image_size
        self.published = published
        self._cache_path: Path | None = None
        self._cache: NDArray[np.uint8] | None = None
        if cache_dir is not None and self.samples:
            self._cache_path = Path(cache_dir) / f"images-{self._fingerprint()}.npy"
            self._open_cache()

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> Item:
        index = range(len(self.samples))[index]  # negative indices, and IndexError at the end
        sample = self.samples[index]
        if self._cache_path is None:
            planes = read_sample(sample, self.image_size, published=self.published)
        else:
            planes = np.array(self._open_cache()[index])  # copied: nobody may write through to the file
        mask = torch.from_numpy(planes[3] > 0)
        return {
            "image": torch.from_numpy(planes[:3]),
            "mask": mask,
            # a defect with an empty mask has no usable mask
            "has_mask": sample.has_mask and (not sample.label or bool(mask.any())),
            "foreground": torch.from_numpy(planes[4] > 0),
            "label": sample.label,
            "index": index,
        }

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_cache": None}  # loader workers map the file themselves instead of copying it

    def _open_cache(self) -> NDArray[np.uint8]:
        if self._cache is None:
            assert self._cache_path is not None
            cache = self._load_cache(self._cache_path)
            if cache is None:
                self._build_cache(self._cache_path)
                cache = self._load_cache(self._cache_path)
            if cache is None:
                raise ImageError(f"cache file {self._cache_path} cannot be read back; check the disk")
            self._cache = cache
        return self._cache

    def _shape(self) -> tuple[int, ...]:
        return (len(self.samples), _PLANES, self.image_size, self.image_size)

    def _load_cache(self, path: Path) -> NDArray[np.uint8] | None:
        try:
            cache = np.load(path, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError, EOFError):  # not there, cut off, or not ours: built anew
            return None
        return cache if cache.shape == self._shape() and cache.dtype == np.uint8 else None

    def _build_cache(self, path: Path) -> None:
        header = {"descr": "|u1", "fortran_order": False, "shape": self._shape()}
        # written, not mapped: a full disk is then an error, and no signal that ends the process
        with atomic_path(path) as temporary, temporary.open("wb") as stream:
            np.lib.format.write_array_header_1_0(stream, header)
            read = partial(read_sample, image_size=self.image_size, published=self.published)
            found = ahead(read, self.samples)  # decoders let other threads run
            for planes in progress(found, "reading images", total=len(self.samples)):
                stream.write(planes.tobytes())

    def _fingerprint(self) -> str:
        digest = hashlib.blake2b(digest_size=16)
        digest.update(repr((_CACHE_VERSION, self.image_size, self.published)).encode())
        for sample in self.samples:
            files = (sample.path, sample.mask_path, sample.foreground_path)
            digest.update(repr((sample.crop, sample.boxes, [_file_key(file) for file in files])).encode())
        return digest.hexdigest()


def read_sample(sample: Sample, image_size: int, *, published: bool = False) -> ByteArray:
    """Read and resize the parts of one sample.

    Args:
        sample: What to read.
        image_size: Side S of the square in pixels.
        published: See `ImageDataset`.

    Returns:
        uint8 array ``(5, S, S)``: red, green, blue, mask and foreground (both 0 or 1).

    Raises:
        ImageError: If a file is unreadable, or a mask has another size than its image.
    """
    image = read_image(sample.path)
    shape = image.shape[:2]
    planes = np.empty((_PLANES, image_size, image_size), np.uint8)
    planes[:3] = resize_image(_crop(image, sample), image_size).transpose(2, 0, 1)  # (S,S,3) -> (3,S,S)
    planes[3] = 0
    if sample.mask_path is not None:
        mask = _crop(_read_fitting(sample.mask_path, sample.path, shape), sample)
        planes[3] = resize_mask(mask, image_size, published=published)
    elif sample.boxes is not None:
        planes[3] = resize_mask(_crop(draw_boxes(sample.boxes, shape), sample), image_size, published=published)
    planes[4] = 1
    if sample.foreground_path is not None:
        foreground = _crop(_read_fitting(sample.foreground_path, sample.path, shape), sample)
        planes[4] = resize_foreground(foreground, image_size, published=published)
    return planes


def draw_boxes(boxes: Sequence[Box], shape: tuple[int, ...]) -> ByteArray:
    """Rectangles as a mask of 0 and 255, ``(H, W)`` uint8."""
    mask = np.zeros(shape, np.uint8)
    for left, top, right, bottom in boxes:
        mask[top:bottom, left:right] = 255
    return mask


def _read_fitting(path: Path, image: Path, shape: tuple[int, ...]) -> ByteArray:
    mask = read_mask(path)
    if mask.shape != shape:
        height, width = shape
        raise ImageError(
            f"mask {path} is {mask.shape[1]} x {mask.shape[0]} pixels but {image} is {width} x {height};"
            " save the mask at the size of its image"
        )
    return mask


def _crop(array: ByteArray, sample: Sample) -> ByteArray:
    if sample.crop is None:
        return array
    left, top, right, bottom = sample.crop
    if left < 0 or top < 0 or right > array.shape[1] or bottom > array.shape[0]:
        raise ImageError(f"{sample.path} is smaller than its tile {sample.crop}; use the original file")
    return np.ascontiguousarray(array[top:bottom, left:right])


def _file_key(path: Path | None) -> tuple[str, int, int] | None:
    if path is None:
        return None
    try:
        status = path.stat()
    except OSError as error:
        raise ImageError(f"{path} does not exist or may not be read; check the path") from error
    return (str(path.resolve()), status.st_size, status.st_mtime_ns)
