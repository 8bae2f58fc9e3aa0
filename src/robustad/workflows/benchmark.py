"""A matrix of detectors, data and seeds: train each, test each, and rank them side by side."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import re
import shutil
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from robustad._checks import check_at_least
from robustad._configs import LIMITS, from_plain
from robustad.errors import CheckpointError, RobustadError
from robustad.evaluation import BASELINE, Results, Row
from robustad.files import write_text
from robustad.reporting import Board, boards, leaderboard_html, leaderboard_markdown
from robustad.training.state import STATE_FILE
from robustad.workflows._candidate import digest_of, info_of
from robustad.workflows._data import DataConfig, fingerprint, images_of, thinned
from robustad.workflows._run import CHECKPOINT, CONFIG_FILE, differences
from robustad.workflows.fit import FitConfig, fit, fit_config
from robustad.workflows.test import EDITIONS, REPORT, RESULTS, test
from robustad.workflows.test_config import TestConfig, settings

LEADERBOARD = "leaderboard"
ERRORS = "leaderboard-errors"


@dataclass(frozen=True, kw_only=True)
class Matrix:
    """What is trained and tested.

    Attributes:
        detectors: By the name that the leaderboard shows: a recipe and what differs from it (`FitConfig`, nested), or
            ``checkpoint``: a detector that is trained already.
        data: Data sets and categories, by the name that the leaderboard shows.
        seeds: Seeds of training.
        test: How each is tested.
    """

    detectors: Mapping[str, Mapping[str, Any]]
    data: Mapping[str, DataConfig]
    seeds: tuple[int, ...] = (0,)
    test: TestConfig = field(default_factory=TestConfig)

    def __post_init__(self) -> None:
        if not self.detectors or not self.data or not self.seeds:
            raise ValueError("a matrix needs at least one of each: `detectors`, `data`, `seeds`")
        if len(set(self.seeds)) < len(self.seeds) or min(self.seeds) < 0:
            raise ValueError(f"`seeds` must be whole numbers from 0 on, each once, got {list(self.seeds)}")
        if BASELINE in self.detectors:
            raise ValueError(f"a detector cannot be called {BASELINE!r}: the trivial baseline is; choose another name")
        for where, names in (("detectors", self.detectors), ("data", self.data)):
            folders = [_folder_name(name) for name in names]
            if len({folder.casefold() for folder in folders}) < len(folders):
                raise ValueError(f"names in `{where}` must differ in more than signs and capitals: {', '.join(names)}")
        _ = list(cells(self, Path()))  # options that do not exist are found before anything is trained

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Matrix:
        """A matrix from plain values, e.g. a YAML file.

        A list as ``category`` means each of them, and an entry of ``data`` may have a ``name``.

        Raises:
            ValueError: If an option does not exist or does not fit; the text says where.
        """
        known = {item.name for item in dataclasses.fields(cls)}
        unknown = sorted(set(map(str, values)) - known)
        if unknown:
            raise ValueError(f"unknown key {', '.join(map(repr, unknown))}; known: {', '.join(sorted(known))}")
        detectors = values.get("detectors") or {}
        if not isinstance(detectors, Mapping):
            raise ValueError("`detectors` must be names with options below them")
        for name, options in detectors.items():
            if not isinstance(options, Mapping):
                raise ValueError(f"detectors.{name} must hold options, e.g. {{recipe: default}}, got {options!r}")
        return cls(
            detectors={str(name): dict(options) for name, options in detectors.items()},
            data=_all_data(values.get("data") or []),
            seeds=_seeds(values.get("seeds", [0])),
            test=_within("test", lambda: from_plain(TestConfig, values.get("test") or {})),
        )


class Place(NamedTuple):
    """One detector on one data set with one seed.

    Attributes:
        detector: Its name in the matrix.
        label: Name of the data in the matrix.
        data: What it is trained and tested on.
        seed: Seed of its training.
        folder: Where everything of it lies.
        config: How it is trained; None = it is, in ``checkpoint``.
        checkpoint: Folder of the trained detector.
    """

    detector: str
    label: str
    data: DataConfig
    seed: int
    folder: Path
    config: FitConfig | None
    checkpoint: Path

    @property
    def text(self) -> str:
        """For people."""
        return f"{self.detector} on {self.label}" + (f", seed {self.seed}" if self.config else "")


@dataclass(frozen=True)
class BenchmarkResult:
    """What a benchmark leaves behind.

    Attributes:
        page: The leaderboard as one HTML page; CSV and Markdown lie beside it.
        boards: The leaderboard, one part for each data set.
        failed: Cells that could not be measured: what, and why.
    """

    page: Path
    boards: list[Board]
    failed: dict[str, str]


def benchmark(
    matrix: Matrix, out: str | Path, *, command: str = "", on_cell: Callable[[str], None] | None = None
) -> BenchmarkResult:
    """Train and test every cell of a matrix, and write ``leaderboard.html``, ``.csv`` and ``.md`` after each.

    Finished cells are not done again, an interrupted one goes on where it was. A cell that fails is reported at the
    end; the others are measured all the same.

    Args:
        matrix: See `Matrix`.
        out: Folder of the benchmark; a cell has a folder of its own in it.
        command: The command line, for the page.
        on_cell: Called with a line of text before each cell.

    Raises:
        CheckpointError: If ``out`` holds a cell that was trained with other options.
    """
    out, started = Path(out), datetime.now(UTC)
    todo = list(cells(matrix, out))
    shutil.rmtree(out / ERRORS, ignore_errors=True)  # of an earlier run
    results: list[tuple[Place, Results]] = []
    failed: dict[str, str] = {}
    for place in todo:
        _check_same(place)
    began, done = time.monotonic(), 0
    shown: list[Board] = []
    for number, place in enumerate(todo, start=1):
        found = finished(place, matrix.test)
        if found is None:
            if on_cell is not None:
                left = (time.monotonic() - began) / done * (len(todo) - number + 1) / 60 if done else None
                eta = "" if left is None else f"; about {max(1, round(left))} min left"
                on_cell(f"cell {number} of {len(todo)}: {place.text}{eta}")
            try:
                found = measure(place, matrix.test)
            except Exception as error:  # noqa: BLE001 - whatever is wrong with a cell, the others are measured
                failed[place.text] = _why(error, out / ERRORS / f"{_folder_name(place.text)}.txt")
            done += 1
        if found is not None:
            results.append((place, found))
        shown = _write(out, results, failed, command=command, started=started)
    return BenchmarkResult(out / f"{LEADERBOARD}.html", shown, failed)


def _why(error: Exception, path: Path) -> str:
    """One line; the whole story is written, and named where what happened was not foreseen."""
    text = " ".join(str(error).split())
    write_text(path, "".join(traceback.format_exception(error)))
    if text and isinstance(error, RobustadError | OSError | ValueError):
        return text
    return f"{type(error).__name__}: {text} (see {path})"


def cells(matrix: Matrix, out: Path) -> Iterator[Place]:
    """Every cell, in order: data set by data set, seed by seed, so that comparisons are complete early."""
    for label, data in matrix.data.items():
        for seed in matrix.seeds:
            for name, options in matrix.detectors.items():
                where = f"detectors.{name}"
                if "checkpoint" in options:
                    if set(options) > {"checkpoint"}:
                        raise ValueError(f"{where}: a `checkpoint` is trained already and takes no other option")
                    if seed == matrix.seeds[0]:
                        folder = out / _folder_name(name) / _folder_name(label)
                        yield Place(name, label, data, seed, folder, None, Path(str(options["checkpoint"])))
                    continue
                config = _within(where, lambda o=options, d=data, s=seed: configured(o, d, s))  # type: ignore[misc]
                folder = out / _folder_name(name) / _folder_name(label) / f"seed-{seed}"
                yield Place(name, label, data, seed, folder, config, folder / CHECKPOINT)


def configured(options: Mapping[str, Any], data: DataConfig, seed: int) -> FitConfig:
    """A recipe, what it prescribes for the data, and what differs from it."""
    if "data" in options:
        raise ValueError("`data` stands beside `detectors`, not below a detector")
    plain = fit_config(str(options.get("recipe", "default")), data.data).to_dict()
    training = dict(options.get("training") or {})
    if "seed" in training:
        raise ValueError("`seeds` stands beside `detectors`, not below a detector: leave training.seed out")
    if any(training.get(name) is not None for name in LIMITS):
        training = dict.fromkeys(LIMITS) | training
    merged = _merged(plain, {**options, "training": {**training, "seed": seed}, "data": data.to_dict()})
    return FitConfig.from_dict(merged)


def measure(place: Place, config: TestConfig) -> Results:
    """Train what is not trained yet, then test; both go on where they were interrupted."""
    if place.config is not None and not (place.checkpoint / "config.json").exists():
        resume = (place.folder / STATE_FILE).exists()
        if not resume and (place.folder / CONFIG_FILE).exists():
            shutil.rmtree(place.folder)  # it was killed before anything was kept
        fit(place.config, place.folder, resume=resume)
    return Results.read(test(place.checkpoint, place.data, config, place.folder / "test").results)


def finished(place: Place, config: TestConfig) -> Results | None:
    """The results of a cell that is done; None if it is not, or was of other weights, other data, another test."""
    path = place.folder / "test" / RESULTS
    if not (path.is_file() and path.with_name(REPORT).is_file()):
        return None
    wanted: dict[str, Any] = {"config": settings(config), "data": place.data.resolved().to_dict(), "editions": EDITIONS}
    try:
        results = Results.read(path)
        wanted["checkpoint"] = digest_of(place.checkpoint)
        wanted["transfer"] = digest_of(config.transfer) if config.transfer else None
        images = images_of(place.data, part=config.part, seed=int(info_of(place.checkpoint).get("seed", 0))).test
        wanted["images"] = fingerprint(thinned(images, config.max_images), truth=True)
    except (OSError, LookupError, TypeError, AttributeError, ValueError, RobustadError):
        return None  # measuring it says what is wrong
    found = {name: results.details.get(name) for name in wanted}
    return results if json.dumps(found) == json.dumps(wanted) else None


def _check_same(place: Place) -> None:
    if place.config is None or not (place.folder / CONFIG_FILE).exists():
        return
    if differing := differences(place.folder, place.config):
        raise CheckpointError(
            f"{place.folder} was trained with other options ({', '.join(differing)}) than {place.text} has now; choose "
            "another --out, another name for the detector, or delete the folder"
        )


def _write(
    out: Path, results: Sequence[tuple[Place, Results]], failed: Mapping[str, str], *, command: str, started: datetime
) -> list[Board]:
    rows: list[Row] = []
    reports: dict[tuple[str, str], dict[int, str]] = {}
    health: dict[tuple[str, str], dict[int, dict[str, bool | None]]] = {}
    baselines: set[tuple[str, int]] = set()
    for place, found in results:
        key, at = (place.label, place.detector), (place.label, place.seed)
        own = {row.detector for row in found.rows} - {BASELINE} or {BASELINE}
        for row in found.rows:
            named = dataclasses.replace(row, data=place.label, seed=place.seed)
            if row.detector in own:
                rows.append(dataclasses.replace(named, detector=place.detector))
            elif at not in baselines:  # images of another size have another brightness, by a little
                rows.append(named)
        baselines |= {at} if own != {BASELINE} else set()
        report = place.folder / "test" / REPORT
        reports.setdefault(key, {})[place.seed] = report.relative_to(out).as_posix()
        if checks := found.details.get("health"):
            health.setdefault(key, {})[place.seed] = {check["name"]: check["passed"] for check in checks}
    made = boards(rows, reports=reports, checks=health)
    about = {"created": f"{started.day} {started:%B %Y}", "command": command}
    write_text(out / f"{LEADERBOARD}.html", leaderboard_html(made, failed=failed, **about))
    write_text(out / f"{LEADERBOARD}.md", leaderboard_markdown(made, failed=failed))
    write_text(out / f"{LEADERBOARD}.csv", _csv(rows))
    return made


def _csv(rows: Sequence[Row]) -> str:
    """Every figure on a line of its own."""
    text = io.StringIO()
    names = ("detector", "recipe", "data", "split", "seed", "attack", "norm", "epsilon", "targets", "metric", "against")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*names, "value", "low", "high", "reason"])
    for row in rows:
        ends = row.interval or ("", "")
        values = [getattr(row, name) for name in names] + [row.value, *ends, row.reason]
        writer.writerow(["" if value is None else value for value in values])
    return text.getvalue()


def _all_data(entries: Any) -> dict[str, DataConfig]:
    found: dict[str, DataConfig] = {}
    for label, data in _each_data(entries):
        if label in found:
            raise ValueError(f"two entries of `data` are called {label!r}; give each a `name`")
        found[label] = data
    return found


def _each_data(entries: Any) -> Iterator[tuple[str, DataConfig]]:
    if isinstance(entries, Mapping):
        entries = [entries]
    for number, entry in enumerate(entries):
        if not isinstance(entry, Mapping):
            raise ValueError(f"data[{number}] must hold options, e.g. {{data: elpv, category: mono}}, got {entry!r}")
        options = {key: value for key, value in entry.items() if key not in ("name", "category")}
        categories = entry.get("category")
        several = categories if isinstance(categories, list) else [categories]
        for category in several:
            options["category"] = None if category is None else str(category)
            data: DataConfig = _within(f"data[{number}]", lambda: DataConfig.from_dict(options))  # noqa: B023
            name = str(entry.get("name", data.label))
            yield f"{name}:{category}" if "name" in entry and len(several) > 1 else name, data


def _within(where: str, build: Callable[[], Any]) -> Any:
    try:
        return build()
    except (ValueError, TypeError) as error:
        raise ValueError(f"{where}: {error}") from error


def _seeds(values: Any) -> tuple[int, ...]:
    if not isinstance(values, list):
        raise ValueError(f"`seeds` must be a list, e.g. [0, 1, 2], got {values!r}")
    return tuple(_whole(seed) for seed in values)


def _whole(seed: Any) -> int:
    if isinstance(seed, bool) or not isinstance(seed, int):
        raise ValueError(f"`seeds` must be whole numbers, got {seed!r}")
    check_at_least("seeds", seed, 0)
    return seed


def _merged(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Options over options, also of the parts of a config; what is below those is replaced, as on the command line."""
    both = {key: {**base[key], **value} for key, value in changes.items() if _is_part(base.get(key), value)}
    return {**base, **changes, **both}


def _is_part(*values: Any) -> bool:
    return all(isinstance(value, Mapping) for value in values)


def _folder_name(text: str) -> str:
    """A name that every file system takes."""
    return re.sub(r"[^\w.+-]+", "-", text).strip("-.") or "detector"
