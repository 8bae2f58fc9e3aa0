"""Unpack downloaded archives so that nothing leaves the folder and nothing half-done stays behind.

Members are written by this module, not by `tarfile` or `zipfile`: only folders and regular files are ever created. A
link inside a tar archive becomes a copy of the member it names, so no later member can be written through it; the
filters of the standard library follow links on disk and have been bypassed that way.
"""

from __future__ import annotations

import lzma
import posixpath
import shutil
import stat
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PureWindowsPath
from typing import IO, NamedTuple

from robustad._progress import Progress
from robustad.errors import DownloadError

MAX_BYTES = 200 * 2**30
MAX_FILES = 2_000_000
_CHUNK = 1 << 20
_NAMES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.xz", ".tar.bz2")
# What the readers raise on a truncated or corrupted archive; RuntimeError is zipfile's word for "encrypted".
_DAMAGE = (zipfile.BadZipFile, tarfile.TarError, lzma.LZMAError, zlib.error, EOFError, RuntimeError, ValueError)


class ArchiveError(DownloadError):
    """The archive itself is to blame, not the disk: damaged, unsafe, or none at all; fetching it anew may help."""


class _Member(NamedTuple):
    name: str
    is_folder: bool
    stream: IO[bytes] | None  # None: a folder, or a link
    link: str | None = None  # name inside the archive of the member that a link stands for


def extract(
    archive: Path,
    target: Path,
    *,
    strip: int = 0,
    max_bytes: int = MAX_BYTES,
    max_files: int = MAX_FILES,
    show_progress: bool = False,
) -> Path:
    """Unpack a zip or tar archive (plain, gz, bz2, xz; told apart by content) into a new folder.

    Args:
        archive: The file to unpack.
        target: Folder that appears only when everything is unpacked; must not exist, or be empty.
        strip: Number of leading path components to drop from every name.
        max_bytes: Most bytes that may be written, counted as they come, not as the archive declares them.
        max_files: Most members the archive may hold.
        show_progress: Show how far it is.

    Returns:
        ``target``.

    Raises:
        ArchiveError: If it is damaged, encrypted, not an archive, or holds a name, link or device that would reach
            outside ``target``; nothing stays behind.
        DownloadError: If it is too large, does not fit on the disk, or ``target`` is in use; nothing stays behind.
    """
    if target.is_symlink() or target.is_file() or (target.is_dir() and any(target.iterdir())):
        raise DownloadError(f"cannot unpack into {target}: it exists and is not empty")
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}.") as temporary:
        # A folder within: the temporary one is closed to other users, the result should follow the umask.
        content = Path(temporary, "content")
        content.mkdir()
        writer = _Writer(archive, content, strip=strip, max_bytes=max_bytes, max_files=max_files)
        try:
            with Progress(f"unpack {archive.name}", unit="members", enabled=show_progress) as shown:
                for member in _members(archive):
                    writer.write(member)
                    shown.update()
        except DownloadError:
            raise
        except _DAMAGE as error:
            raise ArchiveError(f"{archive} is damaged or cannot be read: {error}") from error
        except OSError as error:
            raise DownloadError(f"cannot unpack {archive} into {target}: {error.strerror or error}") from error
        if not any(content.iterdir()):
            raise ArchiveError(f"{archive} is empty")
        if target.exists():
            target.rmdir()
        content.rename(target)
    return target


def is_archive(path: Path) -> bool:
    """Whether a file is meant for `extract`: by its name, for a truncated one does not look like it, or its content."""
    return path.name.lower().endswith(_NAMES) or tarfile.is_tarfile(path) or zipfile.is_zipfile(path)


class _Writer:
    """Writes members below one folder and counts the bytes."""

    def __init__(self, archive: Path, base: Path, *, strip: int, max_bytes: int, max_files: int) -> None:
        self._archive = archive
        self._base = base
        self._strip = strip
        self._limit = min(max_bytes, shutil.disk_usage(base).free)
        self._written = 0
        self._max_files = self._files_left = max_files

    def write(self, member: _Member) -> None:
        """Create one folder, file, or copy of an earlier file."""
        self._files_left -= 1
        if self._files_left < 0:
            raise DownloadError(f"{self._archive} is not unpacked: it holds more than {self._max_files} members")
        path = self._place(member.name)
        if path is None:
            return
        if member.is_folder:
            path.mkdir(parents=True, exist_ok=True)
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        if member.stream is not None:
            self._copy(member.stream, path)
            return
        source = self._place(member.link or "")
        if source is None or not source.is_file() or source == path:
            raise self._unsafe(member.name, f"it is a link to {member.link!r}, which is not an earlier file of it")
        with source.open("rb") as stream:
            self._copy(stream, path)

    def _place(self, name: str) -> Path | None:
        """Where ``name`` goes; None for what stripping removes and for the clutter of macOS."""
        if "\0" in name or name.startswith("/") or PureWindowsPath(name).drive:
            raise self._unsafe(name, "its name is absolute or holds a zero byte")
        parts = [part for part in name.split("/") if part not in ("", ".")]
        if ".." in parts:
            raise self._unsafe(name, "its name leads out of the folder")
        kept = parts[self._strip :]
        if not kept or "__MACOSX" in parts or kept[-1] == ".DS_Store":
            return None
        return self._base.joinpath(*kept)

    def _copy(self, stream: IO[bytes], path: Path) -> None:
        with path.open("wb") as output:
            while chunk := stream.read(_CHUNK):
                self._written += len(chunk)
                if self._written > self._limit:
                    raise DownloadError(
                        f"{self._archive} is not unpacked: it needs more than the {self._limit / 1e9:.3g} GB "
                        "that are free or allowed"
                    )
                output.write(chunk)

    def _unsafe(self, name: str, reason: str) -> ArchiveError:
        return ArchiveError(f"{self._archive} is not unpacked: member {name!r} is unsafe: {reason}")


def _members(archive: Path) -> Iterator[_Member]:
    if tarfile.is_tarfile(archive):
        yield from _tar_members(archive)
    elif zipfile.is_zipfile(archive):
        yield from _zip_members(archive)
    else:
        raise ArchiveError(f"{archive} is neither a zip nor a tar archive")


def _tar_members(archive: Path) -> Iterator[_Member]:
    with tarfile.open(archive) as opened:
        for info in opened:
            name = info.name.replace("\\", "/")
            if info.isreg():
                yield _Member(name, False, opened.extractfile(info))
            elif info.isdir():
                yield _Member(name, True, None)
            elif info.issym():
                # A symbolic link is relative to its own folder, a hard link to the archive.
                link = posixpath.normpath(posixpath.join(posixpath.dirname(name), info.linkname.replace("\\", "/")))
                yield _Member(name, False, None, link)
            elif info.islnk():
                yield _Member(name, False, None, info.linkname.replace("\\", "/"))
            else:
                raise ArchiveError(f"{archive} is not unpacked: member {name!r} is a device or pipe")


def _zip_members(archive: Path) -> Iterator[_Member]:
    with zipfile.ZipFile(archive) as opened:
        for info in opened.infolist():
            name = _zip_name(info).replace("\\", "/")
            mode = info.external_attr >> 16
            if stat.S_IFMT(mode) not in (0, stat.S_IFREG, stat.S_IFDIR):
                raise ArchiveError(f"{archive} is not unpacked: member {name!r} is a link or device")
            if name.endswith("/"):
                yield _Member(name, True, None)
                continue
            with opened.open(info) as stream:
                yield _Member(name, False, stream)


def _zip_name(info: zipfile.ZipInfo) -> str:
    """The member's name; many tools store UTF-8 without saying so, which zipfile then reads as code page 437."""
    if info.flag_bits & 0x800:
        return info.filename
    try:
        return info.filename.encode("cp437").decode("utf-8")
    except UnicodeError:
        return info.filename
