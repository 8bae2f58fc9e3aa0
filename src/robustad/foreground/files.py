"""Foreground masks as files: reading and writing them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from robustad._checks import check_choice
from robustad.errors import ImageError
from robustad.files import atomic_path
from robustad.foreground._clean import Mask
from robustad.foreground.methods import FOREGROUND
from robustad.images import binarise_mask, read_image, read_mask


def read_foreground(path: str | Path) -> Mask:
    """Read a mask: grey above 127 is foreground (or every non-zero value, where nothing is that bright).

    Raises:
        ImageError: If the file cannot be read, or nothing in it is foreground.
    """
    mask = binarise_mask(read_mask(path))
    if not mask.any():
        raise ImageError(f"{path} marks no foreground; write 255 where the object is, or delete the file")
    return mask


def write_masks(
    image_paths: Sequence[str | Path],
    out_dir: str | Path,
    method: str = "classical",
    *,
    overwrite: bool = True,
) -> list[Path]:
    """Write the foreground mask of each picture as ``out_dir/STEM.png``, 0 and 255; a file is whole or absent.

    Args:
        image_paths: Pictures.
        out_dir: Where to write; made if missing.
        method: A key of `FOREGROUND`.
        overwrite: False keeps masks that exist, e.g. to resume, or to keep those corrected by hand.

    Returns:
        The mask files, in the order of the pictures.

    Raises:
        ValueError: If the method is unknown, two pictures share a stem, or a mask would overwrite a picture.
        ImageError: If a picture cannot be read; masks written before it stay.
    """
    find = FOREGROUND[check_choice("method", method, FOREGROUND)]
    sources = [Path(path) for path in image_paths]
    targets = _targets(sources, Path(out_dir))
    for source, target in zip(sources, targets, strict=True):
        if overwrite or not target.exists():
            write_mask(find(read_image(source)), target)
    return targets


def _targets(sources: list[Path], folder: Path) -> list[Path]:
    targets = [folder / f"{source.stem}.png" for source in sources]
    seen: dict[Path, Path] = {}
    for source, target in zip(sources, targets, strict=True):
        if target in seen:
            raise ValueError(f"{seen[target]} and {source} would both write {target.name}; use one folder for each")
        if target.resolve() == source.resolve():
            raise ValueError(f"the mask of {source} would overwrite it; choose another `out_dir`")
        seen[target] = source
    return targets


def write_mask(mask: npt.NDArray[np.bool_], path: str | Path) -> None:
    """Write a mask ``(H, W)`` as PNG of 0 and 255, atomically."""
    with atomic_path(path) as temporary:
        Image.fromarray(np.asarray(mask, dtype=np.uint8) * np.uint8(255)).save(temporary, format="PNG")
