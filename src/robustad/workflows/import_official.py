"""Turn weights that the authors released into a checkpoint."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, NamedTuple

from robustad.data import ImageDataset
from robustad.detectors import AnomalyDetector, load_official, save_checkpoint
from robustad.errors import CheckpointError
from robustad.workflows._batches import batches
from robustad.workflows._data import DataConfig, fingerprint, load_split


class Imported(NamedTuple):
    """What an import leaves behind.

    Attributes:
        checkpoint: Folder of the detector.
        lacking: What is to be done before it can score; empty = nothing.
    """

    checkpoint: Path
    lacking: str


def import_official(
    file: str | Path, out: str | Path, *, image_size: int | None = None, data: DataConfig | None = None
) -> Imported:
    """Read a released ``.pth`` without running its pickle and write a checkpoint with equal outputs.

    Args:
        file: State dict of the authors' code of either method, under its old or new name.
        out: Folder of the checkpoint; must not hold anything yet.
        image_size: Input side, pixels; None = as the tensors say.
        data: Where a detector whose scores compare with normal images takes them from: the training images. It is
            also what `test` then tests on by itself. None = nowhere.

    Raises:
        CheckpointError: If the file is missing, holds anything else, or ``out`` is in use.
        LayoutError: If the data are not there.
        ImageError: If an image cannot be read.
        ValueError: If options do not fit together.
    """
    source, target = Path(file), Path(out)
    if not source.is_file():
        raise CheckpointError(f"{source} does not exist; give the released .pth file")
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise CheckpointError(f"{target} exists and is not empty; choose another folder for the checkpoint")
    detector = load_official(source, image_size=image_size)
    with source.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    info = {"imported_from": source.name, "imported_sha256": digest}
    info |= {} if data is None else _completed(detector, data)
    return Imported(save_checkpoint(target, detector, info=info), detector.lacking)


def _completed(detector: AnomalyDetector, data: DataConfig) -> dict[str, Any]:
    """Show the detector the training images of ``data``; returns what the checkpoint has to say about them."""
    seed = 0  # decides which normal images are set aside for a test
    train = load_split(data, seed=seed).train
    detector.complete(batches(ImageDataset(train, detector.image_size), "looking at normal images"))
    return {"data": data.resolved().to_dict(), "seed": seed, "fingerprint": fingerprint(train)}
