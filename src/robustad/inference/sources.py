"""Which images are meant: files, folders, globs and lists on standard input, one at a time, never all in memory."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, TextIO

from robustad.errors import LayoutError
from robustad.images import IMAGE_EXTENSIONS

STDIN = "-"


class Source(NamedTuple):
    """One image to be read.

    Attributes:
        path: The file, as the user would write it.
        name: Relative name in POSIX form, different for different files of one run: outputs are named after it.
        error: Why it cannot even be looked at (a folder that may not be entered), or None.
    """

    path: Path
    name: str
    error: str | None = None


class Sources:
    """The images that command line arguments stand for, in their order; folders sorted by path, with sub-folders.

    Files are taken whatever their extension; in folders only image extensions count and hidden files are left out. An
    argument that is no file is read as a glob (``**`` descends). ``-`` stands for one path per line on ``stdin``.
    Names are relative to the folder given, or to the common parent if several places are.

    Args:
        arguments: Files, folders, globs, ``-``.
        stdin: Where ``-`` reads from.

    Raises:
        LayoutError: If an argument stands for nothing that exists, or nothing is given.
        ValueError: If ``-`` is given twice, or without ``stdin``.
    """

    def __init__(self, arguments: Sequence[str | Path], *, stdin: TextIO | None = None) -> None:
        texts = [os.fspath(argument) for argument in arguments]
        if not texts:
            raise LayoutError("no images given; name files, folders, globs, or - for a list on standard input")
        if texts.count(STDIN) > 1 or (STDIN in texts and stdin is None):
            raise ValueError("`-` (a list on standard input) can be given once, and only where there is one")
        self._stdin = stdin
        self._parts = [(text, _expand(text)) for text in texts]
        self._places = {place for text, found in self._parts for place in _places(text, found)}
        self._base = _common_base([_anchor(text, found) for text, found in self._parts])

    def __iter__(self) -> Iterator[Source]:
        for text, found in self._parts:
            if text == STDIN:
                assert self._stdin is not None
                yield from (self._source(line) for line in map(_strip, self._stdin) if line)
            elif found is None:
                yield from self._walk(text)
            else:
                for path in found:
                    yield from self._walk(path) if Path(path).is_dir() else [self._source(path)]

    def count(self) -> int | None:
        """Number of images, or None if only reading the list to its end would tell."""
        return None if any(text == STDIN for text, _ in self._parts) else sum(1 for _ in self)

    def reads_from(self, folder: Path) -> Path | None:
        """The place among the arguments that what is written to a folder would be found in; None = none."""
        inside = folder.resolve()
        for place, recursive in sorted(self._places):
            if place == inside or (recursive and place in inside.parents):
                return place
        return None

    def _source(self, path: str, error: str | None = None) -> Source:
        return Source(Path(path), _relative(path, self._base), error)

    def _walk(self, folder: str) -> Iterator[Source]:
        try:
            with os.scandir(folder) as entries:
                # a folder sorts as if its name ended in "/": the order of the full paths, without holding them all
                names = sorted(e.name + "/" * e.is_dir(follow_symlinks=False) for e in entries if e.name[:1] != ".")
        except OSError as error:
            yield self._source(folder, f"folder {folder} cannot be read: {error.strerror}; change its permissions")
            return
        for name in names:
            path = os.path.join(folder, name.removesuffix("/"))  # noqa: PTH118 - text is a third of a Path's size
            if name.endswith("/"):
                yield from self._walk(path)
            elif os.path.splitext(name)[1].lower() in IMAGE_EXTENSIONS:  # noqa: PTH122
                yield self._source(path)


def check_place(folder: Path, sources: Sources, option: str) -> None:
    """Pictures written into a place that is read would be read themselves, in this run or the next.

    Args:
        folder: Where they go.
        sources: What is read.
        option: Name of the option that says so.

    Raises:
        ValueError: If the folder lies in such a place, or is a file.
    """
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"`{option}` must be a folder, got the file {folder}")
    place = sources.reads_from(folder)
    if place is not None:
        raise ValueError(f"`{option}` {folder} lies inside {place}, which is read; choose a folder outside of it")


def _strip(line: str) -> str:
    return line.rstrip("\r\n")


def _expand(text: str) -> list[str] | None:
    """The paths of a file or a glob; None for a folder and for ``-``."""
    if text == STDIN or Path(text).is_dir():
        return None
    if Path(text).exists():
        return [text]
    found = _outermost(sorted(glob.glob(text, recursive=True))) if glob.has_magic(text) else []  # noqa: PTH207 - absolute
    if not found:
        reason = "matches no file" if glob.has_magic(text) else "does not exist"
        raise LayoutError(f"{text} {reason}; check the path")
    return found


def _outermost(paths: list[str]) -> list[str]:
    """Without what lies in a folder that is among them, which is read as a whole."""
    folders = {Path(path) for path in paths if Path(path).is_dir()}
    return [path for path in paths if folders.isdisjoint(Path(path).parents)] if folders else paths


def _places(text: str, found: list[str] | None) -> set[tuple[Path, bool]]:
    """Folders that an argument reads from, and whether with all that is below them."""
    if text == STDIN:
        return set()
    if found is None:
        return {(Path(text).resolve(), True)}
    folders = {Path(path) for path in found if Path(path).is_dir()}
    parents = {Path(path).parent for path in found if Path(path) not in folders}
    return {(folder.resolve(), True) for folder in folders} | {(folder.resolve(), "**" in text) for folder in parents}


def _anchor(text: str, found: list[str] | None) -> str:
    """The folder that the names of this argument are relative to."""
    if text == STDIN:
        return str(Path.cwd())
    if found is None:
        return str(Path(text).absolute())
    return os.path.commonpath([Path(path).absolute().parent for path in found])


def _common_base(anchors: list[str]) -> str:
    normal = [os.path.normpath(anchor) for anchor in anchors]
    try:
        return os.path.commonpath(normal)
    except ValueError:  # two drives
        return normal[0]


def _relative(path: str, base: str) -> str:
    absolute = Path(os.path.normpath(Path(path).absolute()))
    try:
        return absolute.relative_to(base).as_posix()
    except ValueError:  # from a list, and somewhere else: its whole path, under a name of its own
        return Path("_elsewhere", *absolute.parts[1:]).as_posix()
