"""Turn weights that the authors released into a checkpoint."""

from __future__ import annotations

import hashlib
from pathlib import Path

from robustad.detectors import load_official, save_checkpoint
from robustad.errors import CheckpointError


def import_official(file: str | Path, out: str | Path, *, image_size: int | None = None) -> Path:
    """Read a released ``.pth`` without running its pickle and write a checkpoint with equal scores.

    Args:
        file: State dict of the authors' code, under its old or new name.
        out: Folder of the checkpoint; must not hold anything yet.
        image_size: Input side, pixels; None = as the number of patches says.

    Returns:
        ``out``.

    Raises:
        CheckpointError: If the file is missing, holds anything else, or ``out`` is in use.
    """
    source, target = Path(file), Path(out)
    if not source.is_file():
        raise CheckpointError(f"{source} does not exist; give the released .pth file")
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise CheckpointError(f"{target} exists and is not empty; choose another folder for the checkpoint")
    detector = load_official(source, image_size=image_size)
    with source.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    return save_checkpoint(target, detector, info={"imported_from": source.name, "imported_sha256": digest})
