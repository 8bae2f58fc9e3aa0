"""What a test is about: a word of the command line, resolved to a detector and what has to be known of it.

A folder is one of our checkpoints, ``NAME.onnx`` a model in an ONNX file, and ``anomalib:PATH.ckpt`` (or
``anomalib:MODEL=PATH.ckpt``) a checkpoint of anomalib.
"""

from __future__ import annotations

import hashlib
import mmap
import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from robustad.detectors import Checkpoint, load_checkpoint
from robustad.detectors.checkpoint import CONFIG, WEIGHTS, checkpoint_digest
from robustad.files import read_json
from robustad.types import Calibration
from robustad.workflows._run import CHECKPOINT

ANOMALIB = "anomalib:"


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A detector under test.

    Attributes:
        detector: In eval mode; has ``name``, ``image_size`` and ``has_maps``.
        digest: Of its weights, and of the options that say what is made of them.
        path: The folder or file that it was read from.
        calibration: Threshold, if one was computed.
        info: What it was trained on and how, as far as it is known: plain values.
    """

    detector: Any
    digest: str
    path: Path
    calibration: Calibration | None = None
    info: dict[str, Any] = field(default_factory=dict)

    @property
    def run_folder(self) -> Path | None:
        """Where its training left its log; None = it does not lie where a training left it."""
        return _run_folder(self.path)

    @property
    def title(self) -> str:
        """A short name for results."""
        return (self.run_folder or self.path.resolve()).name if self.path.is_dir() else self.path.stem


def load_candidate(word: str | Path, *, device: torch.device, image_size: int | None = None) -> Candidate:
    """Resolve a word; see above.

    Args:
        word: What was given.
        device: Where the detector goes.
        image_size: Side of the images of detectors from elsewhere, for files that leave it open.

    Raises:
        ValueError: If ``image_size`` is given for a checkpoint of ours, which knows its own, or does not fit a file.
        CheckpointError: If it cannot be loaded, or has no scores yet.
        MissingExtra: If what reads such a file is not installed.
    """
    path = candidate_path(word)
    if str(word).startswith(ANOMALIB):
        from robustad.adapters.anomalib import load_anomalib

        model, _ = _named(word)
        return _foreign(load_anomalib(path, model=model or None, image_size=image_size), path, "anomalib", device)
    if path.suffix == ".onnx":
        from robustad.adapters.onnx import from_onnx

        return _foreign(from_onnx(path, image_size=image_size), path, "onnx", device)
    if image_size is not None:
        raise ValueError(f"`image_size` is for detectors from elsewhere; {path} knows its own")
    return _ours(load_checkpoint(path, device=device))


def candidate_path(word: str | Path) -> Path:
    """The folder or file that a word names."""
    if str(word).startswith(ANOMALIB):
        return _named(word)[1]
    path = Path(word)
    return path.parent if path.name in (WEIGHTS, CONFIG) else path


def _named(word: str | Path) -> tuple[str, Path]:
    """Model and file of ``anomalib:MODEL=PATH``; Lightning's own names of files have such signs, too."""
    text = str(word).removeprefix(ANOMALIB)
    model, _, path = text.partition("=")
    return (model, Path(path)) if path and re.fullmatch(r"\w+", model) and not Path(text).exists() else ("", Path(text))


def digest_of(word: str | Path) -> str:
    """Digest of a candidate's weights and options, read off its files."""
    path, digest = candidate_path(word), hashlib.sha256()
    if path.is_dir():
        return checkpoint_digest(path)
    for file in (path, *_outside(path)):
        if file.is_file():
            with file.open("rb") as stream:
                digest.update(hashlib.file_digest(stream, "sha256").digest())
    return digest.hexdigest()


def _outside(path: Path) -> list[Path]:
    """Files beside an ONNX model that hold its large weights, whatever they are called."""
    if path.suffix != ".onnx" or not path.is_file() or not path.stat().st_size:
        return []
    with path.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as content:
        # key and value of a protobuf map: field 1, the word; field 2, its length in one byte, the name
        found = {content[at.end() : at.end() + at[1][0]] for at in re.finditer(rb"location\x12([\x01-\x7f])", content)}
    return sorted(path.parent / os.fsdecode(name) for name in found if b"\0" not in name)


def info_of(word: str | Path) -> dict[str, Any]:
    """What one of our checkpoints says of its training; nothing for others."""
    path = candidate_path(word)
    return dict(read_json(path / "config.json").get("info", {})) if path.is_dir() else {}


def default_out(word: str | Path) -> Path:
    """Where results go unless one says: ``test`` in the folder of a run, ``NAME-test`` beside anything else."""
    path = candidate_path(word)
    if path.suffix == ".onnx" or str(word).startswith(ANOMALIB):
        return path.resolve().parent / f"{path.stem}-test"
    run = _run_folder(path)
    return path.resolve().with_name(f"{path.resolve().name}-test") if run is None else run / "test"


def _run_folder(path: Path) -> Path | None:
    whole = path.resolve()
    return whole.parent if whole.name == CHECKPOINT else None


def _ours(loaded: Checkpoint) -> Candidate:
    loaded.check_complete()
    assert loaded.path is not None
    return Candidate(
        detector=loaded.detector,
        digest=digest_of(loaded.path),
        path=loaded.path,
        calibration=loaded.calibration,
        info=loaded.info,
    )


def _foreign(detector: torch.nn.Module, path: Path, recipe: str, device: torch.device) -> Candidate:
    """No threshold is taken from other tools: they may have chosen it on test images."""
    return Candidate(detector=detector.to(device).eval(), digest=digest_of(path), path=path, info={"recipe": recipe})
