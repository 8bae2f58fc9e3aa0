"""Foreground masks for training images, and a sheet to look at them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from robustad._checks import check_at_least, check_choice
from robustad._progress import progress
from robustad.errors import ImageError, LayoutError
from robustad.foreground import FOREGROUND, contact_sheet, read_foreground, thumbnail_with_mask, write_masks
from robustad.images import list_images, read_image

MASK_FOLDER = "foreground_mask"
PUBLISHED = ("good", "ok", "normal", "train")
"""Names that training folders have in data sets, beside which masks lie; so that sibling folders never share one."""


@dataclass(frozen=True, kw_only=True)
class MasksResult:
    """What `masks` did.

    Attributes:
        out: Folder of the masks.
        num_masks: How many it holds for these images.
        sheet: The contact sheet.
        errors: One line per image without a mask, or without a place on the sheet.
    """

    out: Path
    num_masks: int
    sheet: Path
    errors: list[str]


def masks(
    folder: str | Path,
    out: str | Path | None = None,
    *,
    method: str = "classical",
    sheet: str | Path | None = None,
    sheet_images: int = 24,
    overwrite: bool | None = None,
) -> MasksResult:
    """Find the foreground of each image of a folder and write it as a mask, with a contact sheet of some.

    Args:
        folder: Images, with sub-folders, which are mirrored.
        out: Folder of the masks; None = a folder beside ``folder``: ``foreground_mask``, where training looks for it,
            if that of a data set is meant (`PUBLISHED`), else ``FOLDER_foreground_mask``.
        method: A key of `robustad.foreground.FOREGROUND`.
        sheet: The contact sheet; None = ``OUT_sheet.png`` beside ``out``.
        sheet_images: Images on it, spread evenly over the folder.
        overwrite: What becomes of masks that exist, such as those corrected by hand: False keeps them, True makes them
            again; None = there must be none.

    Raises:
        LayoutError: If the folder does not exist or holds no image.
        ImageError: If not a single image could be read.
        ValueError: If the method is unknown, ``out`` or ``sheet`` lies inside ``folder``, two images of a folder would
            share a mask, or there are masks and ``overwrite`` does not say what becomes of them.
        MissingExtra: If the method's network is not installed.
    """
    base = Path(folder)
    check_choice("method", method, FOREGROUND)
    check_at_least("sheet_images", sheet_images, 1)
    images = list_images(base, recursive=True)
    if not images:
        raise LayoutError(f"no images in {base}; expected files such as .png, .jpg, .bmp or .tif")
    target = _default_place(base.resolve()) if out is None else Path(out)
    picture = target.with_name(f"{target.name}_sheet.png") if sheet is None else Path(sheet)
    for name, path in (("out", target), ("sheet", picture)):
        if base.resolve() in (path.resolve(), *path.resolve().parents):
            raise ValueError(
                f"`{name}` {path} lies inside {base}, where it would be taken for an image; choose another"
            )
    places = {image: target / image.relative_to(base).parent for image in images}
    _check_stems(places)
    if overwrite is None:
        _check_none(places)
    errors = []
    written: list[tuple[Path, Path]] = []
    for image in progress(images, f"{method} foreground"):
        try:
            written.append((image, write_masks([image], places[image], method, overwrite=bool(overwrite))[0]))
        except ImageError as error:
            errors.append(str(error))
    if not written:
        raise ImageError(f"none of the {len(images)} images could be read; the first: {errors[0]}")
    errors += write_sheet(_spread(written, sheet_images), picture, base)
    return MasksResult(out=target, num_masks=len(written), sheet=picture, errors=errors)


def write_sheet(pairs: Sequence[tuple[Path, Path]], path: Path, base: Path) -> list[str]:
    """Write the contact sheet of (image, mask) pairs, captioned relative to ``base``; returns what cannot be shown.

    Raises:
        ImageError: If none of them can be shown.
    """
    shown, errors = {}, []
    for image, mask in pairs:  # one at a time: pictures may be large
        try:
            picture = read_image(image)
            found = read_foreground(mask)
            if found.shape != picture.shape[:2]:
                raise ImageError(f"mask {mask} has another size than {image}; make it again (--overwrite)")
            shown[image.relative_to(base).as_posix()] = thumbnail_with_mask(picture, found)
        except ImageError as error:
            errors.append(str(error))
    if not shown:
        raise ImageError(errors[0])
    contact_sheet(list(shown.values()), path, captions=list(shown))
    return errors


def _default_place(folder: Path) -> Path:
    known = folder.name.lower() in PUBLISHED
    return folder.parent / (MASK_FOLDER if known else f"{folder.name}_{MASK_FOLDER}")


def _check_none(places: dict[Path, Path]) -> None:
    existing = [mask for image, place in places.items() if (mask := place / f"{image.stem}.png").exists()]
    if existing:
        raise ValueError(
            f"{len(existing)} of the masks exist, e.g. {existing[0]}: `overwrite` must say whether they are kept or "
            "made again (--keep or --overwrite)"
        )


def _check_stems(places: dict[Path, Path]) -> None:
    seen: dict[Path, Path] = {}
    for image, place in places.items():
        other = seen.setdefault(place / image.stem, image)
        if other is not image:
            raise ValueError(f"{other} and {image} would share the mask {image.stem}.png; rename one of them")


def _spread(pairs: list[tuple[Path, Path]], count: int) -> list[tuple[Path, Path]]:
    if len(pairs) <= count:
        return pairs
    return [pairs[number * len(pairs) // count] for number in range(count)]
