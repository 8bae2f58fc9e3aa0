"""From an unpacked archive to the layout that a dataset has on disk."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from robustad.data._addresses import Address
from robustad.data.archives import ArchiveError
from robustad.errors import DownloadError


def in_place(root: Path, row: Address) -> bool:
    """Whether the images or masks of ``row`` are already below ``root``; empty folders do not count as masks."""
    pattern = row.present or row.into.replace("{category}", "*") + "/*"
    return root.is_dir() and any(not _is_hidden(path.relative_to(root)) for path in root.glob(pattern))


def visible(folder: Path) -> list[Path]:
    """The entries of a folder that are not hidden, sorted."""
    return sorted(path for path in folder.iterdir() if not path.name.startswith("."))


def core(unpacked: Path, root: Path, row: Address) -> Path:
    """The folder of an unpacked archive that holds what ``row`` promises, without the folders that only wrap it.

    Raises:
        ArchiveError: If the archive holds something else.
    """
    if row.kind == "images" and not row.into:
        source = _unwrap(unpacked, lambda folder: any(folder.glob(row.present)))
        if not any(source.glob(row.present)):
            raise ArchiveError(
                f"what came from {row.link} does not hold {row.dataset}: there is no {row.present} in it"
            )
        return source
    if "{category}" not in row.into:
        return _unwrap(unpacked)
    source = _unwrap(unpacked, lambda folder: bool(_categories(folder, root)))
    if not _categories(source, root):
        raise ArchiveError(f"the {row.kind} of {row.dataset} hold no folder that is named as a category in {root}")
    return source


def place(source: Path, root: Path, row: Address) -> None:
    """Move what `core` found to where it belongs; each move is a rename, and a second call does the rest.

    Masks never replace masks that are already there.

    Raises:
        DownloadError: If something is in the way.
    """
    keep = row.kind == "masks"
    if "{category}" in row.into:
        for folder in _categories(source, root):
            _move(_unwrap(folder), root / row.into.format(category=folder.name), keep=keep)
    elif row.into:
        _move(source, root / row.into, keep=keep)
    else:
        for path in visible(source):
            _move(path, root / path.name)


def _categories(folder: Path, root: Path) -> list[Path]:
    return [path for path in visible(folder) if path.is_dir() and (root / path.name).is_dir()]


def _unwrap(folder: Path, found: Callable[[Path], bool] = lambda folder: False) -> Path:
    """Go down while there is nothing but one folder, and not further than where ``found`` holds."""
    while not found(folder):
        entries = visible(folder)
        if len(entries) != 1 or not entries[0].is_dir():
            break
        folder = entries[0]
    return folder


def _move(source: Path, target: Path, *, keep: bool = False) -> None:
    if target.is_dir() and not any(target.iterdir()):
        target.rmdir()
    if target.exists():
        if keep:
            return
        raise DownloadError(f"{target} is in the way; move it, then run the download again")
    target.parent.mkdir(parents=True, exist_ok=True)
    source.rename(target)


def _is_hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)
