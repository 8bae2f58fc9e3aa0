"""What evidence tasks share: trainings that are not done twice, evaluations, processes side by side, results files."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import torch
from within_modules import module_rows

from robustad._memory import keep_freed_memory
from robustad.data import ImageDataset, Sample
from robustad.detectors import load_checkpoint
from robustad.evaluation import BenchmarkRow, Results, Row, Suite, evaluate, kind_rows, middle_radius
from robustad.evaluation.figures import Subject, evaluation_details, evaluation_rows
from robustad.evaluation.machine import num_cores
from robustad.evaluation.store import Store
from robustad.training import Engine
from robustad.workflows._data import DataConfig, fingerprint, load_split, thinned
from robustad.workflows._health import examine
from robustad.workflows._run import CHECKPOINT, CONFIG_FILE, read_config
from robustad.workflows.fit import FitConfig, fit
from robustad.workflows.pretrain import PretrainConfig

RUNS, RESULTS = Path("runs/evidence"), Path("results")
T = TypeVar("T")


class Measured(NamedTuple):
    """What was found out about one detector.

    Attributes:
        rows: The figures.
        details: What the rows do not say.
    """

    rows: list[Row]
    details: dict[str, Any]


def trained(config: FitConfig, name: str) -> Path:
    """Checkpoint of a training; an interrupted one goes on, a finished one is used.

    Raises:
        SystemExit: If what is there was trained with other options.
    """
    run = RUNS / name
    check_same(run, config)
    if not (run / CHECKPOINT / "config.json").exists():
        print(f"training {name}", file=sys.stderr)
        resume = (run / "resume.pt").exists()
        if not resume:  # what was interrupted before its first resume point begins again
            shutil.rmtree(run, ignore_errors=True)
        fit(config, run, resume=resume)
    return run / CHECKPOINT


def check_same(run: Path, config: FitConfig | PretrainConfig) -> None:
    """What lies in a run's folder must come from this config; options that were no options then do not count.

    Raises:
        SystemExit: If an option differs.
    """
    if not (run / CONFIG_FILE).exists():
        return
    then, today = (dict(_flat(options)) for options in (read_config(run), config.to_dict()))
    differ = sorted(name for name in then.keys() & today.keys() if then[name] != today[name])
    if differ:
        raise SystemExit(f"{run} was trained with other options ({', '.join(differ)}): move it away, it is used again")


def _flat(options: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in options.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", list(value) if isinstance(value, tuple) else value


def measured(
    checkpoint: Path,
    data: DataConfig,
    *,
    seed: int,
    part: str,
    epsilons: Sequence[float],
    suite: Suite,
    recipe: str,
    other: Path | None = None,
    per_kind: int | None = None,
    images: int | None = None,
    health: bool = True,
) -> Measured:
    """One detector on one half of a test set.

    Args:
        checkpoint: The detector.
        data: Data set and category.
        seed: Seed of the training, which decides which normal images it never saw.
        part: Half of the test set.
        epsilons: Radii.
        suite: Attacks.
        recipe: How the rows call it.
        other: Another detector, for ``transfer``.
        per_kind: Anomalies of each kind, at most; all normal images are taken.
        images: Images, at most, evenly out of both classes.
        health: Whether health checks are run.
    """
    loaded = load_checkpoint(checkpoint)
    detector = loaded.detector
    split = load_split(data, part=part, seed=seed)  # type: ignore[arg-type]
    samples = thinned(split.test if per_kind is None else few_anomalies(split.test, per_kind), images)
    # what a checkpoint says of itself, weights' digest included: its folder may be another training's by now
    who = [(folder / "config.json").read_text(encoding="utf-8") for folder in (checkpoint, other) if folder]
    dataset, store = prepared(detector, samples, f"{who} {fingerprint(samples)} {part}")
    evaluation = evaluate(
        detector,
        dataset,
        suite,
        epsilons=epsilons,
        seed=seed,
        other=load_checkpoint(other).detector if other else None,
        store=store,
    )
    verdicts = examine(detector, dataset, epsilon=middle_radius(epsilons), seed=seed, store=store) if health else []
    subject = Subject(detector=detector.name, recipe=recipe, data=data.label, split=part, seed=seed)
    details = {
        **evaluation_details(evaluation),
        "training": {k: loaded.info[k] for k in ("steps", "seconds") if k in loaded.info},
        "health": [verdict._asdict() for verdict in verdicts],
    }
    rows = evaluation_rows(evaluation, subject) + kind_rows(evaluation, subject)
    within = module_rows(rows, evaluation, samples, split.train) if data.data == "elpv" else ()
    return Measured([*rows, *within], details)


def prepared(detector: Any, samples: list[Sample], context: str) -> tuple[ImageDataset, Store]:
    """Images of a detector's size, and where finished pieces of its evaluation lie."""
    dataset = ImageDataset(samples, detector.image_size, cache_dir=RUNS / "cache")
    return dataset, Store(RUNS / "pieces", context=context)


def few_anomalies(samples: Sequence[Sample], per_kind: int) -> list[Sample]:
    """All normal samples, and at most so many of each kind of anomaly."""
    chosen = [sample for sample in samples if not sample.label]
    for kind in sorted({sample.kind for sample in samples if sample.label}):
        chosen += thinned([sample for sample in samples if sample.label and sample.kind == kind], per_kind)
    return chosen


def side_by_side(jobs: Mapping[str, Callable[[], T]]) -> dict[str, T]:
    """Results of jobs, by name, from as many processes of one thread each as there are cores.

    Small networks gain little from a second thread, and single-threaded results are the same on any number of cores.
    Time budgets of trainings count CPU seconds, so that whatever else the machine does takes nothing from them.

    Raises:
        SystemExit: If jobs failed, after all others are done.
    """
    found: dict[str, T] = {}
    started, count = time.monotonic(), num_cores()
    context = multiprocessing.get_context("spawn")
    failed: dict[str, BaseException] = {}
    with ProcessPoolExecutor(count, mp_context=context, initializer=_single_thread) as pool:
        names = {pool.submit(job): name for name, job in jobs.items()}
        for done, future in enumerate(as_completed(names), start=1):
            name, error = names[future], future.exception()
            if error is None:
                found[name] = future.result()
            else:
                failed[name] = error
                traceback.print_exception(error)
            left = (time.monotonic() - started) / done * (len(jobs) - done) / 60
            verb = "done" if error is None else "FAILED"
            print(f"{done} of {len(jobs)} {verb}: {name}; about {left:.0f} min left", file=sys.stderr, flush=True)
    if failed:
        raise SystemExit(f"{len(failed)} of {len(jobs)} jobs failed: {', '.join(failed)}; what is finished is kept")
    return {name: found[name] for name in jobs}


def _single_thread() -> None:
    torch.set_num_threads(1)
    keep_freed_memory()
    Engine.clock = staticmethod(cpu_seconds)


def cpu_seconds() -> float:
    """CPU time of this process so far, and of its finished children, such as compilers."""
    children = os.times()
    return time.process_time() + children.children_user + children.children_system


def write(
    name: str,
    rows: Sequence[Row],
    *,
    command: str,
    started: datetime,
    details: dict[str, Any],
    benchmarks: Sequence[BenchmarkRow] = (),
) -> None:
    """Write ``results/NAME.json``."""
    results = Results.of_run(name, rows, command=command, started=started, details=details, benchmarks=benchmarks)
    results.write(RESULTS / f"{name}.json")
    print(f"wrote {RESULTS / name}.json", file=sys.stderr)


def write_found(
    name: str,
    found: Mapping[str, Measured],
    started: datetime,
    *,
    task: str = "",
    more: Mapping[str, Any] | None = None,
    benchmarks: Sequence[BenchmarkRow] = (),
) -> None:
    """Write ``results/NAME.json`` from what `side_by_side` found; rows that several jobs share stand there once.

    Args:
        name: Of the file.
        found: By job.
        started: When the task began.
        task: What makes the file, if it is not named like it.
        more: Further details.
        benchmarks: Comparisons of speed.
    """
    rows = list(dict.fromkeys(row for job in found.values() for row in job.rows))
    details = {**{job: measured.details for job, measured in found.items()}, **(more or {})}
    command = f"python tools/evidence.py {task or name}"
    write(name, rows, command=command, started=started, details=details, benchmarks=benchmarks)


def now() -> datetime:
    """The moment, with time zone."""
    return datetime.now(UTC)
