"""One row of the address table: fetch it into a hidden folder, check it, unpack it, put it in place."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

from robustad._extras import require
from robustad.data import _checksums, _drive, _http
from robustad.data._addresses import Address
from robustad.data._placing import core, in_place, place
from robustad.data.archives import ArchiveError, extract, is_archive
from robustad.errors import DownloadError, MissingExtra

_HIDDEN = ".robustad-download"


def staging(root: Path, row: Address) -> Path:
    """The folder where a row's files lie while they are not complete; it is gone when all is in place."""
    # Below the root, not beside it: the root may be a mount point, and moving must stay a rename.
    return root / _HIDDEN / "-".join(part for part in (row.kind, row.into.partition("/")[0].strip("{}")) if part)


def is_missing(root: Path, row: Address) -> bool:
    """Whether a row's files are not, or not all, in place below ``root``."""
    return (staging(root, row) / "ready").is_dir() or not in_place(root, row)


def check_client(rows: Sequence[Address]) -> None:
    """Raise MissingExtra now rather than after hours if one of the rows needs the client of shared drives."""
    if any(row.how.startswith("gdrive") for row in rows):
        require("gdown", "download")


def bring(rows: Sequence[Address], root: Path, *, show_progress: bool) -> None:
    """Fetch the first of ``rows`` that can be had, and put it in place below ``root``.

    Raises:
        DownloadError: If none can be fetched (the first one's reason), or what came cannot be used.
    """
    folder = staging(root, rows[0])
    ready = folder / "ready"
    with _one_line(root):
        if not ready.is_dir():
            row, got = _fetch_any(rows, folder, show_progress)
            try:
                unpacked, digests = _unpack(row, got, show_progress)
                core(unpacked, root, rows[0]).rename(ready)
            except ArchiveError:
                shutil.rmtree(folder)  # kept, it would fail every later run too
                raise
            for key, digest in digests.items():
                _checksums.record(key, digest)
        place(ready, root, rows[0])
        shutil.rmtree(folder)
        _remove_if_empty(folder.parent)


def bring_weights(row: Address, target: Path, *, show_progress: bool) -> Path:
    """Fetch one file of weights to ``target``; one that is there is checked against its recorded checksum.

    Raises:
        DownloadError: If it cannot be fetched, is another file than before, or is no file of weights.
    """
    key = _key(row)
    if target.is_file():
        _checksums.verify(target, key, known=row.sha256)
        return target
    with _one_line(target.parent):
        got = _fetch(row, target.parent / _HIDDEN / target.name, show_progress)
        digest = _verify(row, got, key)
        with got.open("rb") as stream:
            start = stream.read(2)
        if start not in (b"PK", b"\x80\x02"):  # torch.save's two formats; shared drives answer refusals with a page
            got.unlink()
            raise DownloadError(f"what came from {row.link} is not a file of weights; open the address in a browser")
        _checksums.record(key, digest)
        got.replace(target)
        _remove_if_empty(got.parent)
    return target


def bring_folder(row: Address, target: Path, *, show_progress: bool) -> Path:
    """Fetch all files of a shared folder to ``target``, which appears when they are complete."""
    if target.is_dir() and any(target.iterdir()):
        return target
    with _one_line(target.parent):
        got = _fetch(row, target.parent / _HIDDEN / target.name, show_progress)
        _remove_if_empty(target)
        got.rename(target)
        _remove_if_empty(got.parent)
    return target


@contextmanager
def _one_line(place: Path) -> Iterator[None]:
    """Turn what the disk refuses into one line."""
    try:
        yield
    except (DownloadError, MissingExtra):
        raise
    except OSError as error:
        raise DownloadError(f"cannot write to {place}: {error.strerror or error} ({error.filename})") from error


def _remove_if_empty(folder: Path) -> None:
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()


def _fetch_any(rows: Sequence[Address], folder: Path, show_progress: bool) -> tuple[Address, Path]:
    problems = []
    for row in rows:
        try:
            return row, _fetch(row, folder / _file_name(row), show_progress)
        except DownloadError as error:
            problems.append(error)
    raise problems[0]


def _fetch(row: Address, target: Path, show_progress: bool) -> Path:
    if row.how == "http":
        return _http.fetch(row.address, target, show_progress=show_progress)
    gdown = require("gdown", "download")
    if row.how == "gdrive-folder":
        return _drive.fetch_folder(gdown, row, target, show_progress=show_progress)
    return _drive.fetch_file(gdown, row, target, show_progress=show_progress)


def _unpack(row: Address, got: Path, show_progress: bool) -> tuple[Path, dict[str, str]]:
    """Unpack what came, an archive or a folder that may hold some; returns also the checksums by their keys."""
    unpacked = got.parent / "unpacked"
    if unpacked.exists():
        shutil.rmtree(unpacked)
    if not got.is_dir():
        digest = _verify(row, got, _key(row))
        extract(got, unpacked, show_progress=show_progress)
        return unpacked, {_key(row): digest} if row.stable else {}
    digests: dict[str, str] = {}
    done: list[Path] = []
    for archive in sorted(path for path in got.rglob("*") if path.is_file() and is_archive(path)):
        target = archive.with_name(archive.name.split(".")[0])
        if not archive.exists() or any(target in other.parents for other in done):
            continue  # it came out of an archive, now or before an interruption
        shutil.rmtree(target, ignore_errors=True)
        key = f"{_key(row)}/{archive.relative_to(got).as_posix()}"
        digests[key] = _verify(row, archive, key)
        extract(archive, target, show_progress=show_progress)
        done.append(archive)
    for archive in done:  # not before all are unpacked: what is here need not be fetched again
        archive.unlink()
    return got.rename(unpacked), digests


def _verify(row: Address, file: Path, key: str) -> str:
    try:
        return _checksums.verify(file, key, known=row.sha256) if row.stable else ""
    except DownloadError:
        file.unlink()
        raise


def _key(row: Address) -> str:
    return row.address if row.how == "http" else f"{row.how}:{row.address}"


def _file_name(row: Address) -> str:
    if row.how == "gdrive-folder":
        return "folder"
    name = PurePosixPath(urlsplit(row.address).path).name if row.how == "http" else ""
    return name or f"{row.dataset}-{row.kind}.{row.archive or 'bin'}"
