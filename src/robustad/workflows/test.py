"""Test a detector: clean and under attack, with health checks; figures as JSON, everything else as one HTML page."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from itertools import chain, count
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from robustad._devices import device_of
from robustad.data import ImageDataset, Sample, Split
from robustad.errors import LayoutError
from robustad.evaluation import (
    Results,
    Row,
    Store,
    Subject,
    Verdict,
    evaluation_details,
    evaluation_rows,
    kind_rows,
)
from robustad.evaluation.health import EDITION as HEALTH
from robustad.evaluation.store import EDITION as ATTACKS
from robustad.evaluation.witness import gradient_lack
from robustad.files import read_json, write_json
from robustad.inference import pick_device
from robustad.reporting import write_report
from robustad.training.runlog import read_log
from robustad.workflows._bench import Bench
from robustad.workflows._candidate import Candidate, default_out, info_of, load_candidate
from robustad.workflows._command import test_command
from robustad.workflows._data import DataConfig, fingerprint, images_of, thinned
from robustad.workflows._report import OTHER_IMAGES, UNKNOWN_IMAGES, Findings, build_report
from robustad.workflows._run import LOG_FILE
from robustad.workflows.test_config import TestConfig, settings

if TYPE_CHECKING:
    from rich.table import Table

RESULTS, REPORT = "results.json", "report.html"
_CACHE = "test-cache"  # not "cache": the folder may be a training run's
_PIXELS = "images"  # beside the finished pieces in it
_ABOUT = "about.json"  # likewise: which test they are of
EDITIONS = {"health": HEALTH, "attacks": ATTACKS}
"""Results of other ones are not comparable: a benchmark makes them again."""


@dataclass(frozen=True, kw_only=True)
class TestResult:
    """What `test` leaves behind.

    Attributes:
        report: The HTML page.
        results: The figures as JSON.
        rows: The same figures.
        verdicts: Outcome of the health checks; empty if they were switched off.
        caution: Why tested images may be images of the training; empty = they are not.
    """

    __test__: ClassVar[bool] = False

    report: Path
    results: Path
    rows: list[Row]
    verdicts: list[Verdict]
    caution: str = ""


def test(
    checkpoint: str | Path,
    data: DataConfig | None,
    config: TestConfig,
    out: str | Path,
    *,
    command: str = "",
) -> TestResult:
    """Measure a detector and write ``out/results.json`` and ``out/report.html``.

    An interrupted test continues when it is called again with the same arguments: finished pieces wait in
    ``out/test-cache`` until the report is written.

    Args:
        checkpoint: Folder of the checkpoint, an ONNX file, or ``anomalib:PATH.ckpt``; see `load_candidate`.
        data: What to test on; None = the data that the detector was trained for.
        config: See `TestConfig`.
        out: Folder for the results; made if need be, files of an earlier test in it are replaced.
        command: The command line for the report; empty = the equivalent one.

    Raises:
        CheckpointError: If a checkpoint cannot be loaded, or has no scores yet.
        LayoutError: If the data are not there, or hold no test image.
        ImageError: If an image cannot be read.
        ValueError: If options do not fit together.
    """
    started, folder = datetime.now(UTC), Path(out)
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"`out` must be a folder, got the file {folder}")
    loaded = _load(checkpoint, config)
    other = _other(config, loaded)
    data = _data_of(loaded) if data is None else data
    split = _split(loaded, data, config)
    samples = thinned(split.test, config.max_images)
    dataset = _images(loaded, samples, folder)
    truth = fingerprint(samples, truth=True)
    context = f"{loaded.digest} {loaded.detector.image_size} {truth} {other and other.digest}"
    store = Store(folder / _CACHE, context=context)
    write_json(folder / _CACHE / _ABOUT, _about(config, data))
    bench = Bench(candidate=loaded, dataset=dataset, config=config, subject=_subject(loaded, data, config), store=store)
    unchanged = _unchanged(loaded, data, split)
    findings = _measured(
        bench,
        other,
        data=data,
        names=[sample.name for sample in samples],
        num_images=len(split.test),
        caution=_caution(loaded, split, unchanged),
        command=command or test_command(checkpoint, data, asdict(config), asdict(TestConfig()), folder),
        started=started,
    )
    digests: dict[str, str | None] = {
        "checkpoint": loaded.digest,
        "transfer": None if other is None else other.digest,
        "images": truth,
    }
    return _write(findings, config, folder, store, digests, unchanged=unchanged)


test.__test__ = False  # type: ignore[attr-defined]


def free_out(checkpoint: str | Path, data: DataConfig | None, config: TestConfig) -> Path:
    """Where results go unless one says: `default_out`, or ``-2``, ``-3``, ... behind it where another test lies there.

    Another test has other options or other data; the same one is made again in its place.
    """
    first = default_out(checkpoint)
    try:
        on = data or DataConfig.from_dict(info_of(checkpoint)["data"])
    except (OSError, KeyError, TypeError, ValueError, AttributeError):  # `test` says what is wrong, better
        return first
    wanted = json.dumps(_about(config, on))
    for folder in chain([first], (first.with_name(f"{first.name}-{number}") for number in count(2))):
        try:
            found = json.dumps(_held(folder))
        except OSError:
            return folder
        except ValueError:  # whatever it is, it is not ours to replace
            continue
        if found == wanted:
            return folder
    raise AssertionError("numbers do not end")


def _about(config: TestConfig, data: DataConfig) -> list[Any]:
    """What tells one test from another of the same detector."""
    return [settings(config), data.resolved().to_dict()]


def _held(folder: Path) -> Any:
    """`_about` of the test in a folder, finished or interrupted; FileNotFoundError if there is none."""
    unfinished = folder / _CACHE / _ABOUT
    if unfinished.is_file():
        return read_json(unfinished)
    details = Results.read(folder / RESULTS).details
    return [details.get("config"), details.get("data")]


def _images(loaded: Candidate, samples: list[Sample], folder: Path) -> ImageDataset:
    published = loaded.info.get("recipe") == "published"
    return ImageDataset(samples, loaded.detector.image_size, cache_dir=folder / _CACHE / _PIXELS, published=published)


def _measured(bench: Bench, other: Candidate | None, **about: Any) -> Findings:
    """Everything that takes time; ``about`` is what is known beforehand."""
    verdicts = bench.verdicts()
    evaluation = bench.evaluation(verdicts, other)
    run = bench.candidate.run_folder
    return Findings(
        candidate=bench.candidate,
        evaluation=evaluation,
        rows=evaluation_rows(evaluation, bench.subject),
        by_kind=kind_rows(evaluation, bench.subject),
        corrupted=bench.corrupted(),
        certified=bench.certified(verdicts),
        threats=bench.threats(verdicts),
        sticker_draws=bench.config.sticker_draws,
        certificate=bench.config.certificate,
        verdicts=verdicts,
        log=read_log(run / LOG_FILE) if run else [],
        **about,
    )


def _write(
    findings: Findings,
    config: TestConfig,
    folder: Path,
    store: Store,
    digests: dict[str, str | None],
    *,
    unchanged: bool | None,
) -> TestResult:
    loaded = findings.candidate
    details: dict[str, Any] = evaluation_details(findings.evaluation) | {
        **digests,
        "config": settings(config),
        "data": findings.data.resolved().to_dict(),
        "training_images_unchanged": unchanged,
        "health": [verdict._asdict() for verdict in findings.verdicts],
        "editions": EDITIONS,
    }
    results = Results.of_run(
        loaded.title or "test",
        _once([*findings.rows, *findings.by_kind, *findings.corrupted, *findings.certified, *findings.threats]),
        command=findings.command,
        started=findings.started,
        details=details,
    )
    (folder / REPORT).unlink(missing_ok=True)  # an earlier test's must not stand beside these figures
    results.write(folder / RESULTS)  # first: whatever becomes of the page, they are kept
    write_report(build_report(findings, results), folder / REPORT)
    shutil.rmtree(folder / _CACHE / _PIXELS, ignore_errors=True)
    (folder / _CACHE / _ABOUT).unlink(missing_ok=True)
    store.clear()
    return TestResult(
        report=folder / REPORT,
        results=folder / RESULTS,
        rows=findings.rows,
        verdicts=findings.verdicts,
        caution=findings.caution,
    )


def _once(rows: Iterable[Row]) -> list[Row]:
    """Each figure once: the clean AUROC and what is exactly known of brightness belong to several tables."""
    kept: dict[tuple[object, ...], Row] = {}
    for row in rows:
        kept.setdefault((row.detector, row.attack, row.norm, row.epsilon, row.targets, row.metric, row.against), row)
    return list(kept.values())


def _load(checkpoint: str | Path, config: TestConfig) -> Candidate:
    return load_candidate(checkpoint, device=pick_device(config.device), image_size=config.image_size)


def _data_of(loaded: Candidate) -> DataConfig:
    stored = loaded.info.get("data")
    if not isinstance(stored, dict):
        raise ValueError(f"{loaded.path} does not say what it was trained on; say what to test on, e.g. `--data NAME`")
    return DataConfig.from_dict(stored)


def _split(loaded: Candidate, data: DataConfig, config: TestConfig) -> Split:
    """Training and test images; the seed of the training decides which normals it never saw."""
    split = images_of(data, part=config.part, seed=int(loaded.info.get("seed", 0)))
    if not split.test:
        raise LayoutError(f"{data.label} holds no test image; give anomalous or further normal images")
    return split


def _other(config: TestConfig, loaded: Candidate) -> Candidate | None:
    if config.transfer is None:
        return None
    place = str(device_of(loaded.detector))  # where the images will be
    other = _load(config.transfer, replace(config, image_size=None, device=place))
    if other.digest == loaded.digest:
        raise ValueError(f"`transfer` {config.transfer} is the detector under test itself; give another seed's")
    if other.detector.image_size != loaded.detector.image_size:
        raise ValueError(
            f"`transfer` {config.transfer} takes images of {other.detector.image_size} pixels, "
            f"the detector under test {loaded.detector.image_size}; both must be the same"
        )
    if gradient_lack(other.detector):
        raise ValueError(f"`transfer` {config.transfer} must give gradients: {gradient_lack(other.detector)}")
    return other


def _unchanged(loaded: Candidate, data: DataConfig, split: Split) -> bool | None:
    """Whether these training images are the ones that the detector was trained on.

    None = not known, or other ones, while the normal images to test on were set apart by somebody else.
    """
    stored, known = loaded.info.get("data"), loaded.info.get("fingerprint")
    if not isinstance(stored, dict) or known is None:
        return None
    same = bool(known == fingerprint(split.train))
    if same or split.set_aside:
        return same
    return False if DataConfig.from_dict(stored).label == data.label != "folder" else None


def _caution(loaded: Candidate, split: Split, unchanged: bool | None) -> str:
    if unchanged is False:
        return OTHER_IMAGES
    foreign = not isinstance(loaded.info.get("data"), dict)
    return UNKNOWN_IMAGES if foreign and split.set_aside else ""


def _subject(loaded: Candidate, data: DataConfig, config: TestConfig) -> Subject:
    return Subject(
        detector=loaded.detector.name,
        recipe=str(loaded.info.get("recipe", "unknown")),
        data=data.label,
        split=config.part,
        seed=int(loaded.info.get("seed", 0)),
    )


def console_table(rows: Iterable[Row]) -> Table:
    """The figures as a table for the terminal: one line per attack and radius, the trivial baseline last."""
    from robustad.workflows._console import table

    return table(rows)
