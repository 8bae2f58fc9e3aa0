"""Checkpoints: a folder with ``model.safetensors`` and ``config.json``; no pickle is ever read."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from robustad import __version__
from robustad._checks import check_choice
from robustad.detectors._tensors import check_finite
from robustad.detectors.base import AnomalyDetector
from robustad.detectors.registry import DETECTORS
from robustad.errors import CheckpointError
from robustad.files import atomic_path, read_json, write_json
from robustad.types import Calibration

FORMAT = 1
WEIGHTS, CONFIG = "model.safetensors", "config.json"


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """A detector and what one has to know to use it.

    Attributes:
        detector: In eval mode.
        calibration: Threshold, if one was computed.
        info: What it was trained on and how: plain values.
        path: Folder it was read from.
    """

    detector: AnomalyDetector
    calibration: Calibration | None = None
    info: dict[str, Any] = field(default_factory=dict)
    path: Path | None = None

    def check_complete(self) -> None:
        """Raise a `CheckpointError` that says what to do if the detector has no scores yet."""
        if self.detector.lacking:
            raise CheckpointError(f"{self.path or 'this'}: the {self.detector.name} detector {self.detector.lacking}")


def save_checkpoint(
    folder: str | Path,
    detector: AnomalyDetector,
    *,
    calibration: Calibration | None = None,
    info: dict[str, Any] | None = None,
) -> Path:
    """Write ``detector`` to ``folder``; an existing checkpoint there is replaced only once the new one is complete.

    The config names the weights' digest, so that a folder whose two files do not belong together is noticed.
    """
    target = Path(folder)
    tensors = {key: tensor.detach().cpu().contiguous() for key, tensor in detector.state_dict().items()}
    config = {
        "format": FORMAT,
        "robustad": __version__,
        "detector": detector.name,
        "config": detector.config.to_dict(),
        "resize": "lanczos",
        "weights_sha256": "",
        "calibration": None if calibration is None else asdict(calibration),
        "info": info or {},
    }
    # both are complete on disk before either takes its name: a full disk or a bad value leaves the old pair
    with atomic_path(target / CONFIG) as new_config, atomic_path(target / WEIGHTS) as new_weights:
        save_file(tensors, str(new_weights), metadata={"format": "pt"})
        write_json(new_config, {**config, "weights_sha256": _digest(new_weights)})
    return target


def load_checkpoint(folder: str | Path, *, device: str | torch.device = "cpu") -> Checkpoint:
    """Read a checkpoint.

    Raises:
        CheckpointError: If it is missing, of another format or version, damaged, not finite, or no checkpoint folder.
    """
    path = _checkpoint_folder(Path(folder))
    config = _read_config(path)
    weights = path / WEIGHTS
    if _digest(weights) != config["weights_sha256"]:
        raise CheckpointError(f"{weights} does not belong to {path / CONFIG}: saving was interrupted; train again")
    try:
        detector_class = DETECTORS[check_choice("detector", config["detector"], DETECTORS)]
        with torch.random.fork_rng(devices=[]):  # the random weights that are about to be replaced cost no numbers
            detector = detector_class.blank(detector_class.config_class.from_dict(config["config"]))
        detector.load_state_dict(load_file(str(weights)))
        calibration = Calibration(**config["calibration"]) if config.get("calibration") else None
    except (
        SafetensorError,
        RuntimeError,
        ValueError,
        TypeError,
        LookupError,
        AttributeError,
        ArithmeticError,
    ) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[-1].strip()
        raise CheckpointError(f"{path} cannot be loaded by robustad {__version__}: {reason}") from error
    check_finite(detector.state_dict(), weights)
    return Checkpoint(
        detector=detector.to(device).eval(), calibration=calibration, info=config.get("info") or {}, path=path
    )


def checkpoint_digest(folder: Path) -> str:
    """Digest of a checkpoint's weights and options, read off its config."""
    stored = read_json(folder / CONFIG)
    return hashlib.sha256(json.dumps([stored["weights_sha256"], stored["config"]], sort_keys=True).encode()).hexdigest()


def _checkpoint_folder(path: Path) -> Path:
    if path.suffix == ".onnx" or (path.parts[:1] and path.parts[0].startswith("anomalib:")):
        raise CheckpointError(f"{path} is a detector from elsewhere, which only `robustad test` and matrices take")
    if path.suffix in (".pth", ".pt", ".ckpt", ".pkl", ".pickle", ".bin"):
        other = f"; one of anomalib is tested as anomalib:{path}" if path.suffix == ".ckpt" else ""
        raise CheckpointError(
            f"{path} is a pickle, which may run code when read; robustad reads folders with {WEIGHTS}: "
            f"convert released weights with `robustad import-official {path}`{other}"
        )
    if path.name in (WEIGHTS, CONFIG):
        path = path.parent
    if not path.is_dir():
        raise CheckpointError(f"no checkpoint folder {path}")
    for name in (WEIGHTS, CONFIG):
        if not (path / name).is_file():
            inner = [child.parent for child in sorted(path.glob(f"*/{CONFIG}"))]
            hint = f"; did you mean {inner[0]}?" if inner else ""
            raise CheckpointError(f"{path} is no checkpoint: it has no {name}{hint}")
    return path


def _read_config(path: Path) -> dict[str, Any]:
    try:
        config = read_json(path / CONFIG)
    except ValueError as error:
        raise CheckpointError(f"{path / CONFIG} is not JSON: {error}") from error
    if not isinstance(config, dict) or "format" not in config:
        raise CheckpointError(f"{path / CONFIG} is no robustad checkpoint config")
    if config["format"] != FORMAT:
        raise CheckpointError(
            f"{path} was written by robustad {config.get('robustad', '?')} in checkpoint format {config['format']}; "
            f"this is robustad {__version__}, which reads format {FORMAT}: use that version, or train again"
        )
    missing = [key for key in ("detector", "config", "weights_sha256") if key not in config]
    if missing:
        raise CheckpointError(f"{path / CONFIG} lacks {', '.join(missing)}")
    return config


def _digest(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
