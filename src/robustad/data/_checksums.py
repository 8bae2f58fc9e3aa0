"""SHA-256 of downloads: what is published must match; what is not is remembered from the first download."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from robustad.errors import DownloadError
from robustad.files import read_json, write_json


def cache_folder() -> Path:
    """The user's cache: ``ROBUSTAD_CACHE`` or ``~/.cache/robustad``."""
    return Path(os.environ.get("ROBUSTAD_CACHE") or Path.home() / ".cache" / "robustad").expanduser()


def verify(file: Path, key: str, *, known: str = "") -> str:
    """Return the SHA-256 of ``file`` if it is the expected one.

    Args:
        file: A complete download.
        key: Where it came from; its name in ``checksums.json`` in the user's cache.
        known: Published checksum, or empty; it goes before the recorded one.

    Raises:
        DownloadError: If it differs from the published or from the recorded one.
    """
    with file.open("rb") as stream:
        found = hashlib.file_digest(stream, "sha256").hexdigest()
    recorded = _read().get(key, "")
    if known and found != known:
        raise DownloadError(f"{file} from {key} is not the published file: its SHA-256 is {found}, not {known}")
    if not known and recorded and found != recorded:
        raise DownloadError(
            f"{file} from {key} is not the file that was first downloaded: its SHA-256 is {found}, not {recorded}; "
            f"if the publisher has renewed it, remove its line from {_store()}"
        )
    return found


def record(key: str, digest: str) -> None:
    """Remember the SHA-256 of what came from ``key``, once it has proved usable; an earlier record stays."""
    records = _read()
    if key not in records:
        write_json(_store(), {**records, key: digest})


def _store() -> Path:
    return cache_folder() / "checksums.json"


def _read() -> dict[str, str]:
    store = _store()
    if not store.is_file():
        return {}
    try:
        return dict(read_json(store))
    except (OSError, ValueError, TypeError) as error:
        raise DownloadError(f"cannot read the recorded checksums in {store}: {error}; delete the file") from error
