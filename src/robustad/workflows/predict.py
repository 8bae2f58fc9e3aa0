"""Score files: a table and, on request, overlays."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from robustad._progress import Progress
from robustad.detectors import Checkpoint
from robustad.detectors.checkpoint import checkpoint_digest
from robustad.errors import ImageError, LayoutError
from robustad.files import read_json, write_json
from robustad.inference import (
    Journal,
    MapScale,
    Predictor,
    Scored,
    Source,
    Sources,
    check_place,
    check_table,
    checked_scale,
    draw_overlay,
    journal_path,
    map_scale,
    output_path,
    write_png,
    write_table,
)
from robustad.inference.overlays import SHOWN_SIZE

_SCALE_FILE = "map_range.json"


@dataclass(frozen=True, kw_only=True)
class PredictConfig:
    """Options of `predict`.

    Attributes:
        overlays: Folder for heat maps over the pictures; None = none.
        map_range: Map values that are transparent and hottest; None = see `robustad.inference.map_scale`.
        batch_size: Images per forward pass.
        num_workers: Threads that read files; 0 = one per two processors.
        device: ``auto`` or a torch device.
        resume: Go on with an interrupted run that had the same arguments.
    """

    overlays: Path | None = None
    map_range: tuple[float, float] | None = None
    batch_size: int = 16
    num_workers: int = 0
    device: str = "auto"
    resume: bool = False

    def __post_init__(self) -> None:
        if self.map_range is not None and self.overlays is None:
            raise ValueError("`map_range` is the scale of `overlays`; give their folder as well, or leave it out")


@dataclass(frozen=True, kw_only=True)
class PredictResult:
    """What `predict` did.

    Attributes:
        out: The table.
        num_images: Rows of the table.
        num_failed: Rows without a score.
        num_anomalous: Images above the threshold; None if the checkpoint has none.
        first_error: Of the rows without a score; None if there is none.
        map_range: The scale of the overlays, if any were drawn.
    """

    out: Path
    num_images: int
    num_failed: int
    num_anomalous: int | None
    first_error: str | None
    map_range: MapScale | None


def predict(
    checkpoint: str | Path,
    images: str | Path | Sequence[str | Path],
    out: str | Path,
    *,
    config: PredictConfig | None = None,
    stdin: TextIO | None = None,
) -> PredictResult:
    """Score images and write ``path, score, anomalous, error`` for each, in order; memory does not grow with them.

    Rows are kept in ``OUT.partial.jsonl`` while the run lasts; ``out`` appears at the end. After an interruption that
    file stays, and ``resume`` goes on with it. A file that cannot be read becomes a row with an error.

    Args:
        checkpoint: Folder of a checkpoint.
        images: Files, folders, globs; ``-`` = one path per line on ``stdin``.
        out: Table ending in .csv, .jsonl or .parquet.
        config: See `PredictConfig`.
        stdin: Where ``-`` reads from.

    Raises:
        LayoutError: If an argument stands for nothing, or there is no image at all.
        ImageError: If not a single image could be read; no table is written then.
        CheckpointError: If the checkpoint cannot be loaded.
        ValueError: If an option is wrong, or a run is resumed with other arguments.
        MissingExtra: If Parquet is asked for and pyarrow is not installed.
    """
    config = config or PredictConfig()
    target = check_table(out)
    sources = Sources([images] if isinstance(images, str | Path) else images, stdin=stdin)
    if config.overlays is not None:
        check_place(config.overlays, sources, "overlays")
    given = None if config.map_range is None else checked_scale(*config.map_range)
    predictor = Predictor(
        checkpoint, batch_size=config.batch_size, device=config.device, num_workers=config.num_workers
    )
    if config.overlays is not None and not predictor.detector.has_maps:
        raise ValueError(f"a {predictor.detector.name} detector gives no anomaly maps; leave `overlays` out")
    columns = ["path", "score", *(["anomalous"] if predictor.calibration else []), "error"]
    header = _header(predictor.checkpoint, config.overlays, given)
    with Journal(journal_path(target), header, resume=config.resume) as journal:
        drawing = _Overlays(config.overlays, predictor.checkpoint, given, resumed=journal.num_kept > 0)
        _score_all(predictor, sources, journal, drawing)
        tally = _Tally()
        _check_tally(journal, tally.count(journal.rows()))
        write_table(target, journal.rows(), columns)
        journal.remove()
    return PredictResult(
        out=target,
        num_images=tally.num_images,
        num_failed=tally.num_failed,
        num_anomalous=tally.num_anomalous if predictor.calibration else None,
        first_error=tally.first_error,
        map_range=drawing.scale,
    )


def _score_all(predictor: Predictor, sources: Sources, journal: Journal, drawing: _Overlays) -> None:
    remaining = skip_done(sources, journal)
    shown_size = SHOWN_SIZE if drawing.folder is not None else 0
    with Progress("scoring", sources.count(), unit="images", initial=journal.num_kept) as shown:
        for batch in predictor.stream(remaining, shown_size=shown_size):
            drawing.draw(batch)  # before the rows: a row that is kept has its overlay
            journal.append(_row(scored) for scored in batch)
            shown.update(len(batch))


def skip_done(sources: Iterable[Source], journal: Journal) -> Iterator[Source]:
    """The sources after those that the journal holds.

    Raises:
        ValueError: If the journal's rows are not the first of the sources.
    """
    remaining = iter(sources)
    for row in journal.rows() if journal.num_kept else ():
        source = next(remaining, None)
        if source is None or str(source.path) != row["path"]:
            raise ValueError(
                f"{journal.path} was begun with other images ({row['path']} is not where it was); "
                "give the same ones, or delete the file to start anew"
            )
    return remaining


class _Overlays:
    """Draws the pictures of a run on one scale, which the first batch with a map decides unless it is given."""

    def __init__(self, folder: Path | None, checkpoint: Checkpoint, given: MapScale | None, *, resumed: bool) -> None:
        self.folder, self.scale = folder, given
        self._checkpoint = checkpoint
        if folder is not None and given is None and resumed and (folder / _SCALE_FILE).exists():
            self.scale = checked_scale(*read_json(folder / _SCALE_FILE)["map_range"])

    def draw(self, batch: list[Scored]) -> None:
        if self.folder is None:
            return
        maps = [scored.anomaly_map for scored in batch if scored.anomaly_map is not None]
        if self.scale is None and maps:
            self.scale = map_scale(self._checkpoint, maps)
            write_json(self.folder / _SCALE_FILE, {"map_range": list(self.scale)})  # a resumed run goes on with it
        with ThreadPoolExecutor() as pool:  # colouring and compressing take longer than the model
            for _ in pool.map(self._draw_one, batch):
                pass

    def _draw_one(self, scored: Scored) -> None:
        if self.folder is None or self.scale is None or scored.anomaly_map is None:
            return
        assert scored.picture is not None and scored.picture.shown is not None
        picture = draw_overlay(scored.picture.shown, scored.anomaly_map, self.scale)
        write_png(output_path(self.folder, scored.source.name, ".overlay.png"), picture)


@dataclass
class _Tally:
    num_images: int = 0
    num_failed: int = 0
    num_anomalous: int = 0
    first_error: str | None = None

    def count(self, rows: Iterable[dict[str, Any]]) -> _Tally:
        for row in rows:
            self.num_images += 1
            self.num_failed += row["score"] is None
            self.num_anomalous += row["anomalous"] is True
            self.first_error = self.first_error or row["error"]
        return self


def _check_tally(journal: Journal, tally: _Tally) -> None:
    if tally.num_failed < tally.num_images:
        return
    journal.remove()
    if tally.num_images == 0:
        raise LayoutError("no images found there; expected files such as .png, .jpg, .bmp or .tif")
    if tally.num_images == 1:
        raise ImageError(str(tally.first_error))
    raise ImageError(f"none of the {tally.num_images} images could be read; the first: {tally.first_error}")


def _row(scored: Scored) -> dict[str, Any]:
    return {
        "path": str(scored.source.path),
        "score": scored.score,
        "anomalous": scored.anomalous,
        "error": scored.error,
    }


def _header(checkpoint: Checkpoint, overlays: Path | None, given: MapScale | None) -> dict[str, Any]:
    """What rows of one table, and their overlays, must have in common."""
    assert checkpoint.path is not None
    calibration = checkpoint.calibration
    return {
        "checkpoint": checkpoint_digest(checkpoint.path),
        "calibration": None if calibration is None else dataclasses.asdict(calibration),
        "overlays": None if overlays is None else str(overlays.resolve()),
        "map_range": None if given is None else list(given),
    }
