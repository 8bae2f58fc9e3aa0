"""Evidence about training that few cores can afford: pretraining, time to robustness, choices of the recipe.

CPU time is what is held equal (updates, where each takes as long): every training has one thread, and as many run side
by side as there are cores. All on ``dev`` halves. `pretraining` starts from
``runs/evidence/pretrain``, and makes it first if nobody did, in an hour and a half (`robustad pretrain --run-dir
runs/evidence/pretrain`, in the background; ``--resume`` goes on).
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from evidence_robustness import DATA, RECIPES
from measuring import RUNS, Measured, check_same, measured, now, side_by_side, trained, write_found
from torch import nn
from trials import CHOICES, WAYS, changed
from within_modules import MODULE

from robustad.backbones import start_facts
from robustad.detectors import save_checkpoint
from robustad.evaluation import BASELINE, EXACT, BenchmarkRow, Row, Suite, select
from robustad.training import Engine
from robustad.training.runlog import read_log
from robustad.workflows import fit as workflow
from robustad.workflows._data import DataConfig, fingerprint, load_split
from robustad.workflows._run import CONFIG_FILE, LOG_FILE, claimed
from robustad.workflows.fit import FitConfig, fit_config
from robustad.workflows.pretrain import WEIGHTS, PretrainConfig, pretrain, resume_pretrain_config

EPSILON, IMAGES = 2 / 255, 300
QUICK = Suite(attacks=("adaptive-pgd",), strong_steps=20, restarts=1)
WORST = Suite(attacks=("ensemble",), steps=10, strong_steps=20, restarts=1, stop_early=True)
MILD = Suite(attacks=("pgd",), steps=10, stop_early=True)
"""For detectors of which a pass takes half a second: what the worst case leaves is less, so that it favours them."""
ALL_DATA = {**DATA, "deeppcb": DataConfig(data="deeppcb")}
GENTLY = {"training": {"learning_rate": 3e-4, "epsilon_warmup": 0.0, "augment": False}}
"""A training that keeps what weights know: smaller steps, attacks at full radius at once, images as they are."""
STARTS: dict[str, tuple[bool, dict[str, Any]]] = {
    "default": (False, {}),
    "default, trained gently": (False, GENTLY),
    "pretrained, trained gently": (True, GENTLY),
}
"""Lines of `pretraining`: whether the weights of `robustad pretrain` are started from, and what differs otherwise."""


def configured(data: DataConfig, recipe: str, *, seed: int, minutes: float, changes: Mapping[str, Any]) -> FitConfig:
    """A recipe for some time on some data, with some options replaced."""
    config = changed(fit_config(recipe), {"training": {"seed": seed, "max_time": 60 * minutes, "max_epochs": None}})
    return changed(dataclasses.replace(config, data=data), changes)


def start_weights(config: PretrainConfig | None = None) -> Path:
    """Weights of `robustad pretrain`, by its defaults; what was begun goes on, what is finished is used.

    Raises:
        SystemExit: If what is there was made with other options.
    """
    run, wanted = RUNS / "pretrain", config or PretrainConfig()
    check_same(run, wanted)
    if not (run / WEIGHTS).exists():
        torch.set_num_threads(1)
        resume = (run / CONFIG_FILE).exists()
        pretrain(resume_pretrain_config(run) if resume else wanted, run, resume=resume)
    return run / WEIGHTS


def pretraining(updates: int = 1200, seeds: Sequence[int] = (0, 1, 2), images: int = IMAGES) -> None:
    """Recipe ``default`` from random and from pretrained weights, three data sets, three seeds.

    Updates are what is held equal: one takes as long in all lines, and their number does not depend on the machine.
    """
    started, weights = now(), start_weights()
    which = hashlib.sha256(weights.read_bytes()).hexdigest()[:8]  # other weights, other trainings
    jobs: dict[str, Callable[[], Measured]] = {}
    for data in ALL_DATA.values():
        for title, (pretrained, options) in STARTS.items():
            changes = {**options, "model": {"weights": str(weights)}} if pretrained else options
            for seed in seeds:
                config = configured(data, "default", seed=seed, minutes=1, changes=changes)
                config = changed(config, {"training": {"max_time": None, "max_steps": updates}})
                start = which if pretrained else "random"
                gently = "-gently" * bool(options)
                name = f"start-{start}{gently}-{_plain(data.label)}-{seed}-{updates}"
                jobs[name] = partial(_trial, trained, config, name, title, images)
    facts = {"sha256": which, "bytes": weights.stat().st_size, **(start_facts(weights) or {})}
    facts["looks"] = [row for row in read_log(weights.with_name(LOG_FILE)) if "look_AUROC" in row]
    write_found("pretraining", side_by_side(jobs), started, more={"pretraining": facts})


def training_choices(
    key: str, *, minutes: float = 4, choices: Sequence[str] = (*CHOICES, *WAYS), images: int = IMAGES
) -> None:
    """What was tried for the training, one by one at equal CPU time, one seed, on `elpv` or on `mtd`."""
    started, jobs = now(), dict[str, Callable[[], Measured]]()
    base = configured(DATA[key], RECIPES[key], seed=0, minutes=minutes, changes={})
    for title in choices:
        recipes, train = WAYS.get(title, (tuple(RECIPES.values()), trained))
        changes = CHOICES.get(title, {})
        config = changed(base, changes)
        if RECIPES[key] in recipes and not (changes and config == base):
            name = f"choice-{_plain(title)}-{key}-{minutes:g}"
            jobs[name] = partial(_trial, train, config, name, title, images)
    write_found(f"training-choices-{key}", _one_baseline(side_by_side(jobs)), started)


def _one_baseline(found: Mapping[str, Measured]) -> dict[str, Measured]:
    """The rows of baselines of the recipe's line alone: at other sizes of image they differ a little."""
    own = tuple(f"choice-{_plain(next(iter(CHOICES)))}-{key}-" for key in DATA)  # not those of other seeds
    blind = (BASELINE, MODULE)
    return {
        job: result._replace(rows=[row for row in result.rows if row.detector not in blind or job.startswith(own)])
        for job, result in found.items()
    }


def _trial(train: Callable[[FitConfig, str], Path], config: FitConfig, name: str, title: str, images: int) -> Measured:
    """One training, and what it withstands."""
    options = {"seed": config.training.seed, "part": "dev", "epsilons": (EPSILON,), "suite": QUICK, "health": False}
    return measured(train(config, name), config.data, recipe=title, images=images, **options)


class Course(NamedTuple):
    """One training that is watched.

    Attributes:
        recipe: Its recipe; empty = the one that suits the data set.
        share: Of the whole time that it is given: learning rates end with the time they were given.
        radius: That it trains at; None = the recipe's.
    """

    recipe: str
    share: float
    radius: float | None = None


LITERAL, OURS = "published recipe", "ours, in a tenth of the time"
COURSES = {LITERAL: Course("published", 1.0, EPSILON), "ours": Course("", 1.0), OURS: Course("", 0.1)}
"""The comparison is between `LITERAL` and `OURS`, whatever the other one shows.

The published radius, 8/255, is four times the one that is attacked here, which is no help in an hour.
"""
LOOKS = 32
_POINTS = tuple(2**power for power in range(LOOKS.bit_length()))  # of that many: early ones are near each other
MARGIN = 0.03
CONSTANT = 0.5  # what any constant score has, whatever is done to the images


class Kept(NamedTuple):
    """A detector in the middle of its training."""

    minutes: float
    checkpoint: Path


class Keeper:
    """In the place of an early look: keeps the detector, and how many seconds it was trained for.

    Args:
        engine: Of the training.
        folder: Where detectors go.
        began: When the preparation of this session's training began, on the engine's clock.
    """

    def __init__(self, engine: Engine, folder: Path, began: float) -> None:
        self.engine, self.folder, self.began = engine, folder, began
        kept, state = kept_in(folder), engine.state
        self.before = 60 * kept[-1].minutes / _step(kept[-1].checkpoint) * state.step if kept else 0.0
        self.due = [point for point in _POINTS if point > self._reached()]

    def _reached(self) -> float:
        state = self.engine.state
        return LOOKS * state.step / state.total if state.total else 0.0  # the total is unknown at first

    def __call__(self, detector: nn.Module) -> dict[str, float]:
        """Nothing for the log but the time."""
        state, seconds = self.engine.state, self.before + self.engine.clock() - self.began
        reached = self._reached()
        if self.due and reached >= self.due[0]:
            info = {"seconds": seconds, "steps": state.step}
            save_checkpoint(self.folder / f"{state.step:07}", detector, info=info)  # type: ignore[arg-type]
            self.due = [point for point in self.due if point > reached]
        return {"seconds": seconds}


def kept_in(folder: Path) -> list[Kept]:
    """What a `Keeper` kept, in order."""
    found = sorted(folder.glob("*/config.json"))
    infos = [json.loads(path.read_text(encoding="utf-8"))["info"] for path in found]
    return [Kept(info["seconds"] / 60, path.parent) for info, path in zip(infos, found, strict=True)]


def _generator(config: FitConfig) -> Any:
    return config.make_generator(config.data.data, config.data.category)


def _step(checkpoint: Path) -> int:
    return int(checkpoint.name)


def watched(config: FitConfig, name: str) -> list[Kept]:
    """Detectors at times of one training; an interrupted training goes on, a finished one is used."""
    run = RUNS / name
    folder, done = run / "kept", run / "done"
    check_same(run, config)
    if not done.exists():
        print(f"training {name}", file=sys.stderr)
        began, resume = Engine.clock(), (run / "resume.pt").exists() and (run / CONFIG_FILE).exists()
        if not resume:  # what was kept before the first resume point is another training's
            shutil.rmtree(folder, ignore_errors=True)
        train, generator = load_split(config.data, seed=config.training.seed).train, _generator(config)
        with claimed(run, config, resume=resume or (run / CONFIG_FILE).exists()):
            engine = workflow._engine(config, train, [], generator, run, images=fingerprint(train), resume=resume)
        engine.look = Keeper(engine, folder, began)
        engine.run()
        done.touch()
    return kept_in(folder)


def _course(data: DataConfig, key: str, course: Course, minutes: float, changes: Mapping[str, Any]) -> FitConfig:
    """The config of a course; a recipe whose steps take minutes gets a number of them, found by timing two."""
    recipe = course.recipe or RECIPES[key]
    config = configured(data, recipe, seed=0, minutes=minutes * course.share, changes=changes)
    radius = {} if course.radius is None else {"epsilon": course.radius}
    config = changed(config, {"training": {"look_every": 1 / LOOKS, **radius}})
    if course.recipe != "published":
        return config
    return changed(config, {"training": {"max_time": None, "max_steps": _steps_within(config, key, 60 * minutes)}})


def _steps_within(config: FitConfig, key: str, seconds: float) -> int:
    """How many steps fit into a time: a slow recipe would spend most of it on finding that out."""
    short = changed(config, {"training": {"max_time": None, "max_steps": 2, "look_every": 0.0}})
    which = hashlib.sha256(json.dumps(short.to_dict()).encode()).hexdigest()[:8]
    run, note = RUNS / f"timing-{key}-{which}", RUNS / f"timing-{key}-{which}.json"
    if not note.exists():
        train = load_split(config.data, seed=0).train
        engine = workflow._engine(short, train, [], _generator(short), run, images="", resume=False)
        began = engine.clock()
        engine.run()
        note.write_text(json.dumps((engine.clock() - began) / 2), encoding="utf-8")
    return max(1, int(seconds / float(json.loads(note.read_text(encoding="utf-8")))))


def time_to_robustness(
    minutes: float = 60, images: int = 100, literal_changes: Mapping[str, Any] | None = None, suite: Suite = WORST
) -> None:
    """Worst case of the ensemble at 2/255 against training time, of ours and of the published recipe.

    The published recipe is run as ``--recipe published``, which merges passes, and hence is faster than the released
    code, trains at the radius that is attacked, and is attacked by PGD-10 alone: a baseline that is too good. It is
    looked at from an eighth of its steps on, before which it has hardly made one. The weights of a training on its
    way have learning rates that have not yet fallen: ours is therefore also given a tenth of the time in all.
    """
    started, courses = now(), dict[str, Callable[[], list[Kept]]]()
    for title, course in COURSES.items():
        for key, data in DATA.items():
            changes = (literal_changes or {}) if title == LITERAL else {}
            name = f"course-{_plain(title)}-{key}-{minutes:g}"
            courses[f"{title}, {key}"] = partial(_watched, data, key, course, minutes, changes, name)
    kept = side_by_side(courses)
    jobs, times = dict[str, Callable[[], Measured]](), dict[str, tuple[str, str, float]]()
    for title in COURSES:
        for key, data in DATA.items():
            literal = title == LITERAL
            moments = kept[f"{title}, {key}"]
            for moment in moments:
                if literal and 8 * _step(moment.checkpoint) < _step(moments[-1].checkpoint):
                    continue
                recipe = f"{title}, after {moment.minutes:.2f} min"
                options = {"seed": 0, "part": "dev", "epsilons": (EPSILON,), "suite": MILD if literal else suite}
                options |= {"health": False}
                job = f"{key}, {recipe}"
                jobs[job] = partial(measured, moment.checkpoint, data, recipe=recipe, images=images, **options)
                times[job] = (data.label, title, moment.minutes)
    found = side_by_side(jobs)
    facts = {data.label: _facts(data.label, found, times) for data in DATA.values()}
    comparisons = [row for label, fact in facts.items() for row in _comparison(label, fact)]
    write_found("time-to-robustness", found, started, more={"courses": facts}, benchmarks=comparisons)


def _watched(
    data: DataConfig, key: str, course: Course, minutes: float, changes: Mapping[str, Any], name: str
) -> list[Kept]:
    return watched(_course(data, key, course, minutes, changes), name)


def _facts(label: str, found: Mapping[str, Measured], times: Mapping[str, tuple[str, str, float]]) -> dict[str, Any]:
    """Curves of one data set, the mark, and when each curve reaches it; null = not within its time."""
    curves: dict[str, list[list[float]]] = {title: [] for title in COURSES}
    brightness = 0.0
    for job, (data, title, minutes) in times.items():
        if data != label:
            continue
        rows = select(found[job].rows, metric="image_AUROC", epsilon=EPSILON, against=None)
        baseline = select(rows, detector=BASELINE, attack=EXACT)[0].number or 0.0
        brightness = max(brightness, baseline)
        curves[title].append([minutes, _worst(rows)])
    mark = max([value for _, value in curves[LITERAL]] + [max(CONSTANT, brightness) + MARGIN])
    reached = {
        title: next((minutes for minutes, value in curve if value >= mark), None) for title, curve in curves.items()
    }
    return {"curves": curves, "brightness": brightness, "mark": mark, "reached": reached}


def _worst(rows: Sequence[Row]) -> float:
    own = [row for row in rows if row.detector != BASELINE and row.attack in ("ensemble", *(MILD.attacks or ()))]
    return min(row.number or 0.0 for row in own)


def _comparison(label: str, fact: Mapping[str, Any]) -> list[BenchmarkRow]:
    """Times better, at least; no ratio where the published recipe never reaches the mark, nothing where ours does not.

    Between two moments nobody looked: the published recipe is given the one before it was at the mark.
    """
    ours, reached = fact["reached"][OURS], fact["reached"][LITERAL]
    if ours is None:
        return []
    claim = f"time to robustness: {label}, published recipe (at least) against ours"
    if reached is None:
        return [BenchmarkRow(claim=claim, baseline=None, ours=ours, unit="minutes", ratio=None)]
    literal = max((minutes for minutes, _ in fact["curves"][LITERAL] if minutes < reached), default=0.0)
    return [BenchmarkRow(claim=claim, baseline=literal, ours=ours, unit="minutes", ratio=literal / ours)]


def _plain(text: str) -> str:
    return "-".join(re.sub(r"[:,/]", " ", text).split())


TASKS: dict[str, Callable[[], None]] = {
    "pretraining": pretraining,
    **{f"training-choices-{key}": partial(training_choices, key) for key in DATA},
    "time-to-robustness": time_to_robustness,
}
