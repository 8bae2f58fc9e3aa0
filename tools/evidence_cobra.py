"""Evidence about COBRA: ten classes of digits, six losses, what the light score costs, and the data of PatchGuard."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import torch
from measuring import RUNS, Measured, measured, now, side_by_side, trained, write_found

from robustad.data import ImageDataset
from robustad.detectors import Cobra, NearestNormal, NearestNormalConfig, load_checkpoint, save_checkpoint
from robustad.evaluation import BenchmarkRow, Suite, select
from robustad.files import read_json
from robustad.training.cobra_data import RELEASED_RATES
from robustad.training.contrastive import LOSSES
from robustad.workflows._data import DataConfig, load_split
from robustad.workflows._run import CHECKPOINT
from robustad.workflows.fit import FitConfig, fit_config

CLASSES = tuple("0123456789")
FEW_CLASSES, CHOICE_CLASSES, SEEDS = ("3", "5", "8"), ("8",), (0, 1)
EPSILON = 8 / 255
STEPS, LOSS_STEPS, CHOICE_STEPS = 200, 120, 80
PER_KIND = 20
ELPV_STEPS, MTD_STEPS = 600, 250
PGD20 = Suite(attacks=("adaptive-pgd",), strong_steps=20, restarts=1)
NO_ATTACK = "cobra without attacks"

PUBLISHED = "10 views, both blocks (published)"
SCORES: dict[str, dict[str, Any]] = {
    "1 view, the image's own block": {"views": 1, "scored_blocks": 1},
    "1 view, both blocks": {"views": 1, "scored_blocks": 0},
    "10 views, the image's own block": {"views": 10, "scored_blocks": 1},
    PUBLISHED: {"views": 10, "scored_blocks": 0},
    "1 view, the image's own block, 40 axes": {"views": 1, "scored_blocks": 1, "max_axes": 40},
}
"""Ways to read the same weights; the first one is the recipe's."""


def configured(data: DataConfig, *, seed: int = 0, loss: str = "cobra+cls", **training: Any) -> FitConfig:
    """The first recipe of COBRA, as it suits some data."""
    config = fit_config("cobra", data.data)
    return dataclasses.replace(
        config,
        data=data,
        training=dataclasses.replace(config.training, seed=seed, max_time=None, **training),
        losses=dataclasses.replace(config.losses, loss=loss),
    )


def digit(category: str) -> DataConfig:
    """One class of the digits."""
    return DataConfig(data="digits", category=category)


def train_and_measure(config: FitConfig, name: str, recipe: str, *, part: str = "final", **options: Any) -> Measured:
    """One training, attacked with twenty steps through the reported score; at 8/255, unless ``epsilons`` are given."""
    checkpoint = trained(config, name)
    options = {"seed": config.training.seed, "part": part, "recipe": recipe, "epsilons": (EPSILON,), **options}
    return measured(checkpoint, config.data, suite=PGD20, **options)


def nearest(data: DataConfig, name: str, **options: Any) -> Measured:
    """The untrained baseline: distance to the nearest normal image, in pixels."""
    folder, size = RUNS / name / CHECKPOINT, configured(data, max_steps=1).model.image_size
    dataset = ImageDataset(load_split(data, seed=0).train, size)
    images = torch.stack([dataset[i]["image"] for i in range(len(dataset))]).float() / 255
    save_checkpoint(folder, NearestNormal(NearestNormalConfig(image_size=size)).fit([images]))
    common: dict[str, Any] = {"seed": 0, "part": "final", "recipe": "none", "health": False}
    return measured(folder, data, **common, **{"epsilons": (EPSILON,), "suite": PGD20, **options})


def digits() -> None:
    """Classes, losses, scores, on as many processes as there are cores; writes three files."""
    digits_classes()
    digits_losses()
    digits_scores()


def digits_classes() -> None:
    """COBRA, the same network without attacks, and an untrained baseline, on each class."""
    started = now()
    jobs: dict[str, Callable[[], Measured]] = {}
    for category in CLASSES:
        data, name = digit(category), f"digits-{category}"
        jobs[name] = partial(train_and_measure, configured(data, max_steps=STEPS), name, "cobra")
        plain = configured(data, max_steps=STEPS, epsilon=0.0)
        jobs[f"{name}-plain"] = partial(train_and_measure, plain, f"{name}-plain", NO_ATTACK, health=False)
        jobs[f"{name}-nearest"] = partial(nearest, data, f"{name}-nearest")
    found = side_by_side(jobs)
    write_found("digits", found, started)


def digits_losses() -> None:
    """Every loss on a few classes, with fewer updates than the above: what counts is their order."""
    started, jobs = now(), dict[str, Callable[[], Measured]]()
    few: dict[str, Any] = {"per_kind": PER_KIND, "health": False}
    for loss in LOSSES:
        for category in FEW_CLASSES:
            for seed in SEEDS:
                config = configured(digit(category), seed=seed, loss=loss, max_steps=LOSS_STEPS)
                name = f"digits-{category}-{loss}-{seed}-{LOSS_STEPS}"
                jobs[f"{loss}-{category}-{seed}"] = partial(train_and_measure, config, name, loss, **few)
    write_found("digits-losses", side_by_side(jobs), started, task="digits")


def digits_scores() -> None:
    """What lighter scores of the trained weights cost and gain, and a long attack."""
    started = now()
    first = FEW_CLASSES[0]
    long = Suite(attacks=("pgd", "adaptive-pgd"), steps=20, strong_steps=100, restarts=1)
    jobs: dict[str, Callable[[], Measured]] = {
        "long": partial(rescored, digit(first), f"digits-{first}", PUBLISHED, 3, long, ", 40 images")
    }
    jobs |= {
        f"{text}-{category}": partial(rescored, digit(category), f"digits-{category}", text, PER_KIND // 4)
        for category in FEW_CLASSES
        for text in SCORES
    }
    write_found("digits-scores", side_by_side(jobs), started, task="digits", benchmarks=speeds(f"digits-{first}"))


ADAMW_RATES: dict[str, Any] = {
    "optimizer": "adamw",
    "schedule": "cosine",
    "learning_rate": 1e-3,
    "gradient_clip": 1.0,
}
CHOICES: dict[str, dict[str, dict[str, Any]]] = {
    "the recipe": {},
    "views cropped": {"model": {"crop": True}},
    "views mirrored": {"model": {"mirror": True}},
    "halves swapped": {"model": {"blocks": ({"cutperm": 1.0},)}},
    "turned": {"model": {"blocks": ({"rotation": 1.0},)}},
    "scarred": {"model": {"blocks": ({"scar": 1.0},)}},
    "filtered by likelihood (0.05)": {"losses": {"filter_share": 0.05}},
    "one adversary (figure)": {"losses": {"adversary": "figure"}},
    "AdamW": {"training": ADAMW_RATES},
    "10 attack steps": {"training": {"attack_steps": 10}},
}
"""What differs from the recipe; chosen on the ``dev`` half."""


def choices() -> None:
    """Options of the recipe one by one, on the hardest class of the ``dev`` half, at equal updates."""
    started = now()
    jobs: dict[str, Callable[[], Measured]] = {}
    for text, changes in CHOICES.items():
        for category in CHOICE_CLASSES:
            config = configured(digit(category), max_steps=CHOICE_STEPS)
            parts = {part: dataclasses.replace(getattr(config, part), **new) for part, new in changes.items()}
            name = f"digits-{category}-{text.replace(' ', '-')}-{CHOICE_STEPS}"
            config = dataclasses.replace(config, **parts)
            options: dict[str, Any] = {"part": "dev", "per_kind": PER_KIND, "health": False}
            jobs[f"{text}-{category}"] = partial(train_and_measure, config, name, text, **options)
    write_found("cobra-choices", side_by_side(jobs), started)


def optimizers() -> None:
    """The released optimiser against a modern one at full length, on ``dev`` halves."""
    started = now()
    jobs: dict[str, Callable[[], Measured]] = {}
    digits_options: dict[str, Any] = {"per_kind": PER_KIND}
    lengths = [(digit(category), STEPS, digits_options) for category in FEW_CLASSES]
    lengths.append((DataConfig(data="elpv", category="mono"), ELPV_STEPS, {"epsilons": (2 / 255,)}))
    for data, steps, options in lengths:
        for text, rates in {"LARS": RELEASED_RATES, "AdamW": ADAMW_RATES}.items():
            name = f"{data.label.replace(':', '-')}-{text}-{steps}"
            config = configured(data, max_steps=steps, **rates)
            jobs[name] = partial(train_and_measure, config, name, text, part="dev", health=False, **options)
    write_found("cobra-optimizers", side_by_side(jobs), started)


def with_score(data: DataConfig, name: str, text: str) -> Path:
    """A checkpoint with the same weights and another score: its memory is filled anew."""
    source = RUNS / name / CHECKPOINT
    which = read_json(source / "config.json")["weights_sha256"][:8]  # of other weights, another score
    folder = RUNS / f"{name}-{text.replace(' ', '-')}-{which}" / CHECKPOINT
    if not (folder / "config.json").exists():
        loaded = load_checkpoint(source)
        old = loaded.detector
        assert isinstance(old, Cobra)
        detector = Cobra(dataclasses.replace(old.config, num_axes=0, **SCORES[text]))
        memory = ("axes", "projection_weights", "logit_weights")
        kept = {key: value for key, value in old.state_dict().items() if key not in memory}
        detector.load_state_dict(kept, strict=False)
        dataset = ImageDataset(load_split(data, seed=0).train, old.image_size)
        images = torch.stack([dataset[i]["image"] for i in range(len(dataset))]).float() / 255
        save_checkpoint(folder, detector.remember(images.split(64)), info=loaded.info)
    return folder


def rescored(data: DataConfig, name: str, text: str, per_kind: int, suite: Suite = PGD20, about: str = "") -> Measured:
    """The same weights with another score, attacked through that score."""
    found = measured(
        with_score(data, name, text),
        data,
        seed=0,
        part="final",
        epsilons=(EPSILON,),
        suite=suite,
        recipe=text + about,
        per_kind=per_kind,
        health=False,
    )
    return found._replace(rows=select(found.rows, detector="cobra"))


def speeds(name: str) -> list[BenchmarkRow]:
    """Scores per second of the published reading and of each lighter one, in turn, on one batch."""
    images = torch.rand(64, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    data = digit(name.split("-")[1])
    detectors = {text: load_checkpoint(with_score(data, name, text)).detector for text in SCORES}
    seconds: dict[str, list[float]] = {text: [] for text in SCORES}
    for _ in range(7):
        for text, detector in detectors.items():
            began = time.perf_counter()
            with torch.no_grad():
                detector(images)
            seconds[text].append(time.perf_counter() - began)
    rate = {text: len(images) / median(values[1:]) for text, values in seconds.items()}
    return [
        BenchmarkRow(
            claim=f"cobra score: {text} against the published one",
            baseline=rate[PUBLISHED],
            ours=rate[text],
            unit="images/s",
            ratio=rate[text] / rate[PUBLISHED],
        )
        for text in SCORES
        if text != PUBLISHED
    ]


def elpv() -> None:
    """COBRA, the same without attacks, and contrastive learning without opposite pairs, on the data of PatchGuard."""
    started, data = now(), DataConfig(data="elpv", category="mono")
    variants: dict[str, dict[str, Any]] = {"cobra": {}, NO_ATTACK: {"epsilon": 0.0}, "cl": {"loss": "cl"}}
    configs = {recipe: configured(data, max_steps=ELPV_STEPS, **options) for recipe, options in variants.items()}
    names = {recipe: f"elpv-{recipe.replace(' ', '-')}" for recipe in configs}
    side_by_side({names[recipe]: partial(_train, config, names[recipe]) for recipe, config in configs.items()})
    suite = Suite(attacks=("pgd", "ensemble"), steps=10, strong_steps=20, restarts=2)
    jobs: dict[str, Callable[[], Measured]] = {}
    for recipe, name in names.items():
        checkpoint, other = (RUNS / run / CHECKPOINT for run in (name, names["cobra" if recipe == "cl" else "cl"]))
        options: dict[str, Any] = {"seed": 0, "part": "final", "epsilons": (2 / 255,), "suite": suite, "other": other}
        jobs[name] = partial(measured, checkpoint, data, recipe=recipe, health=recipe == "cobra", **options)
    found = side_by_side(jobs)
    write_found("elpv-cobra", _without_baseline(found), started)


def mtd() -> None:
    """COBRA on magnetic tiles, one seed: it has no maps."""
    started, data = now(), DataConfig(data="mtd")
    checkpoint = trained(configured(data, max_steps=MTD_STEPS), "mtd-cobra")
    suite = Suite(attacks=("pgd", "adaptive-pgd"), steps=10, strong_steps=20, restarts=1)
    radii = (1 / 255, 2 / 255, 4 / 255)
    found = measured(checkpoint, data, seed=0, part="final", epsilons=radii, suite=suite, recipe="cobra")
    write_found("mtd-cobra", _without_baseline({"cobra": found}), started)


def _train(config: FitConfig, name: str) -> Measured:
    trained(config, name)
    return Measured([], {})


def _without_baseline(found: dict[str, Measured]) -> dict[str, Measured]:
    """Without the rows that the table of PatchGuard holds already."""
    return {name: job._replace(rows=select(job.rows, detector="cobra")) for name, job in found.items()}


TASKS: dict[str, Callable[[], None]] = {
    "digits": digits,
    "digits-losses": digits_losses,
    "cobra-choices": choices,
    "cobra-optimizers": optimizers,
    "elpv-cobra": elpv,
    "mtd-cobra": mtd,
}
