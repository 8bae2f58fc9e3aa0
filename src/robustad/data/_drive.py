"""Files and folders of shared drives, through `gdown` (extra ``download``)."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from robustad.data._addresses import Address
from robustad.errors import DownloadError


def fetch_file(gdown: Any, row: Address, target: Path, *, show_progress: bool) -> Path:
    """Download the file ``row`` to ``target``; an existing one is complete, since gdown names it only then.

    Args:
        gdown: The imported package.
        row: A row with ``how="gdrive-file"``.
        target: File to make.
        show_progress: Let gdown show its bar, if there is a terminal.

    Raises:
        DownloadError: If the drive refuses, e.g. because the file was fetched too often today.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    quiet = not (show_progress and sys.stderr.isatty())
    try:
        done = gdown.download(id=row.address, output=str(target), quiet=quiet, resume=True)
    except _failures(gdown) as error:
        raise _refused(row, error) from error
    if not done or not target.is_file():
        raise _refused(row, "no file came")
    return target


def fetch_folder(gdown: Any, row: Address, target: Path, *, show_progress: bool) -> Path:
    """Download all files of the folder ``row`` below ``target``; see `fetch_file`."""
    target.mkdir(parents=True, exist_ok=True)
    quiet = not (show_progress and sys.stderr.isatty())
    try:
        done = gdown.download_folder(id=row.address, output=str(target), quiet=quiet, resume=True)
    except _failures(gdown) as error:
        raise _refused(row, error) from error
    if not done or not all(Path(path).is_file() for path in done):
        raise _refused(row, "not all files came")
    return target


def _failures(gdown: Any) -> tuple[type[Exception], ...]:
    # Names differ between gdown's versions. requests' errors are OSErrors; the rest comes from pages it cannot parse.
    own = [item for item in vars(gdown.exceptions).values() if isinstance(item, type) and issubclass(item, Exception)]
    return (*own, OSError, RuntimeError, ValueError, AttributeError, AssertionError)


def _refused(row: Address, reason: object) -> DownloadError:
    text = " ".join(str(reason).split())[:300]
    return DownloadError(
        f"cannot download the {row.kind} of {row.dataset} from {row.link}: {text}; "
        "run again to resume, or open the address in a browser"
    )
