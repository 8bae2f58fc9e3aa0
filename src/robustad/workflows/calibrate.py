"""Give a checkpoint a threshold with a known rate of false alarms."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from robustad._progress import Progress
from robustad.calibration import conformal_calibration, images_needed
from robustad.data import Sample, Split
from robustad.detectors import Checkpoint, load_checkpoint, save_checkpoint
from robustad.errors import ImageError, RobustadError
from robustad.inference import Predictor, Source, Sources
from robustad.types import Calibration
from robustad.workflows._data import DataConfig, fingerprint, load_split


@dataclass(frozen=True, kw_only=True)
class CalibrateConfig:
    """Options of `calibrate`.

    Attributes:
        max_false_alarm_rate: Share of new normal images that is expected above the threshold at most, in (0, 1).
        batch_size: Images per forward pass.
        num_workers: Threads that read files; 0 = one per two processors.
        device: ``auto`` or a torch device.
    """

    max_false_alarm_rate: float = 0.01
    batch_size: int = 16
    num_workers: int = 0
    device: str = "auto"

    def __post_init__(self) -> None:
        images_needed(self.max_false_alarm_rate)  # says what is wrong with it


@dataclass(frozen=True, kw_only=True)
class CalibrateResult:
    """What `calibrate` did.

    Attributes:
        out: Folder of the checkpoint that decides.
        calibration: Its threshold.
        replaced: The threshold that was there before.
        num_objects: How many objects the images show (`Sample.group`); None where images were given, and nobody knows.
        num_failed: Files that could not be read.
        first_error: Of those; None if there is none.
    """

    out: Path
    calibration: Calibration
    replaced: Calibration | None
    num_objects: int | None
    num_failed: int
    first_error: str | None


def calibrate(
    checkpoint: str | Path,
    normal: str | Path | Sequence[str | Path] | None = None,
    *,
    out: str | Path | None = None,
    config: CalibrateConfig | None = None,
) -> CalibrateResult:
    """Score normal images, find the threshold (`conformal_calibration`), and write it into the checkpoint.

    Args:
        checkpoint: Folder of a checkpoint.
        normal: Files, folders, globs of normal images that were not trained on; None = those that the training set
            aside, or the normal test images of a data set that has its own.
        out: Folder for the checkpoint with its threshold; None = the same one, replaced once the new one is complete.
        config: See `CalibrateConfig`.

    Raises:
        CheckpointError: If the checkpoint cannot be loaded, or has no scores yet.
        LayoutError: If an argument stands for nothing, or there is no image at all.
        ImageError: If no image could be read.
        ValueError: If images were trained on, are too few, or the training's own are not there any more.
    """
    config = config or CalibrateConfig()
    loaded = load_checkpoint(checkpoint)
    predictor = Predictor(loaded, batch_size=config.batch_size, device=config.device, num_workers=config.num_workers)
    trained = _trained(loaded)
    num_objects = None
    if normal is None:
        samples = _set_aside(loaded, trained)
        sources = [Source(sample.path, sample.name) for sample in samples]
        num_objects = len({sample.group for sample in samples})
    else:
        sources = _given(normal, trained)
    scores, errors = list[float](), list[str]()
    with Progress("scoring", len(sources), unit="images") as shown:
        for batch in predictor.stream(sources):
            scores += [scored.score for scored in batch if scored.score is not None]
            errors += [scored.error for scored in batch if scored.error is not None]
            shown.update(len(batch))
    if errors and not scores:
        raise ImageError(f"not one image could be read; the first: {errors[0]}")
    calibration = conformal_calibration(scores, config.max_false_alarm_rate)
    assert loaded.path is not None
    target = loaded.path if out is None else Path(out)
    save_checkpoint(target, loaded.detector.cpu(), calibration=calibration, info=loaded.info)
    return CalibrateResult(
        out=target,
        calibration=calibration,
        replaced=loaded.calibration,
        num_objects=num_objects,
        num_failed=len(errors),
        first_error=errors[0] if errors else None,
    )


def _trained(loaded: Checkpoint) -> Split | None:
    """The images of the training and those set aside, if they are where they were; None = nobody knows."""
    data = loaded.info.get("data")
    if not isinstance(data, dict):
        return None
    try:
        split = load_split(DataConfig.from_dict(data), seed=loaded.info.get("seed", 0))
    except (RobustadError, ValueError, OSError):
        return None
    return split if fingerprint(split.train) == loaded.info.get("fingerprint") else None


def _set_aside(loaded: Checkpoint, trained: Split | None) -> list[Sample]:
    why = "" if trained else "the images of its training are not known, or not the same any more"
    normals = [sample for sample in trained.test if not sample.label] if trained else []
    if any(sample.crop is not None for sample in normals):
        why = "its images are cut out of larger files"
    elif trained and not normals:
        why = "its training set no normal images aside"
    if why:
        raise ValueError(f"{loaded.path}: {why}; give `normal`, normal images that it was not trained on")
    return normals


def _given(normal: str | Path | Sequence[str | Path], trained: Split | None) -> list[Source]:
    sources = list(Sources([normal] if isinstance(normal, str | Path) else normal))
    known = {sample.path.resolve() for sample in trained.train} if trained else set[Path]()
    seen = [source for source in sources if source.path.resolve() in known]
    if seen:
        raise ValueError(
            f"{len(seen):,} of {len(sources):,} images were trained on ({seen[0].path}): their scores are too low for "
            "a threshold; give others, or leave `normal` out to use those that the training set aside"
        )
    return sources
