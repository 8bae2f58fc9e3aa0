"""Foreground masks as files: finding, reading and writing them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from robustad._checks import check_choice
from robustad.errors import ImageError
from robustad.files import atomic_path
from robustad.foreground._clean import Mask
from robustad.foreground.methods import FOREGROUND
from robustad.images import IMAGE_EXTENSIONS, binarise_mask, read_image, read_mask

MASK_FOLDER = "foreground_mask"


def find_mask(image_path: str | Path, folder: str | Path | None = None) -> Path | None:
    """The mask that belongs to a picture: same file name, or same stem with another image extension.

    Args:
        image_path: The picture.
        folder: Where the masks lie; by default a folder ``foreground_mask`` beside the picture's folder (the layout of
            the published data sets) or in it.

    Returns:
        Path of the mask, or None.
    """
    image = Path(image_path)
    folders = [Path(folder)] if folder is not None else [image.parent.parent / MASK_FOLDER, image.parent / MASK_FOLDER]
    for place in folders:
        names = [place / image.name, *(place / f"{image.stem}{extension}" for extension in (".png", *IMAGE_EXTENSIONS))]
        for path in names:
            if path.is_file():
                return path
    return None


def read_foreground(path: str | Path, shape: tuple[int, int] | None = None, *, published: bool = False) -> Mask:
    """Read a mask.

    Args:
        path: Mask file; grey above 127 is foreground (or every non-zero value, where nothing is that bright).
        shape: Height and width to bring it to, nearest pixel; None keeps the file's.
        published: Only grey 255 counts, as in the released code.

    Raises:
        ImageError: If the file cannot be read, or nothing in it is foreground.
    """
    grey = read_mask(path)
    if shape is not None and grey.shape != shape:
        grey = np.asarray(Image.fromarray(grey).resize((shape[1], shape[0]), Image.Resampling.NEAREST))
    mask = grey == 255 if published else binarise_mask(grey)
    if not mask.any():
        raise ImageError(f"{path} marks no foreground; write 255 where the object is, or delete the file")
    return mask


def write_masks(
    image_paths: Sequence[str | Path],
    out_dir: str | Path,
    method: str = "classical",
    *,
    progress: Callable[[int, int], object] | None = None,
    overwrite: bool = True,
) -> list[Path]:
    """Write the foreground mask of each picture as ``out_dir/STEM.png``, 0 and 255; a file is whole or absent.

    Args:
        image_paths: Pictures.
        out_dir: Where to write; made if missing.
        method: A key of `FOREGROUND`.
        progress: Called after each picture with the number done and the total.
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
    for done, (source, target) in enumerate(zip(sources, targets, strict=True), start=1):
        if overwrite or not target.exists():
            write_mask(find(read_image(source)), target)
        if progress is not None:
            progress(done, len(sources))
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
