"""Measures what README and docs state, and writes it to ``results/``: every figure there comes from here.

    python tools/evidence.py elpv        # 3 seeds, 5 minutes of one core each, `final` half, worst case at 2/255
    python tools/evidence.py elpv-modules  # the same, of modules that the training never saw
    python tools/evidence.py mtd         # 20 minutes of one core, image and pixel figures at 1, 2, 4 /255
    python tools/evidence.py backbones   # backbones at equal wall time on the `dev` halves of both
    python tools/evidence.py digits      # COBRA: ten classes, six losses, what its light score costs
    python tools/evidence.py cobra-choices  # COBRA's recipe for digits, option by option, on the `dev` half
    python tools/evidence.py elpv-cobra  # COBRA on the data of `elpv`, also without attacks or opposites
    python tools/evidence.py mtd-cobra   # COBRA on the data of `mtd`
    python tools/evidence.py certified   # what is certain of a smoothed COBRA, in L2
    python tools/evidence.py all         # all of these

Not part of ``all``, since they take many hours (`evidence_speed`):

    python tools/evidence.py pretraining         # procedural images first, then the default recipe: does it pay?
    python tools/evidence.py training-choices-elpv  # options of the training, one by one, at equal CPU time
    python tools/evidence.py training-choices-mtd   # the same on the data of `mtd`
    python tools/evidence.py time-to-robustness  # the published recipe and ours, watched for an hour each

With anomalib installed (``make test-anomalib``) but for the last, and not part of ``all``:

    .venv-anomalib/bin/python tools/evidence.py robustness        # six detectors, everything we have, 100 images, hours
    .venv-anomalib/bin/python tools/evidence.py robustness-quick  # the same on 40 images, within an hour
    python tools/evidence.py harder                               # its PatchGuard and COBRA, attacked far longer

Finished trainings and finished pieces of an evaluation are kept under ``runs/evidence`` and not done again.
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from evidence_certified import TASKS as CERTIFIED_TASKS
from evidence_cobra import TASKS as COBRA_TASKS
from evidence_harder import TASKS as HARDER_TASKS
from evidence_robustness import TASKS as ROBUSTNESS_TASKS
from evidence_speed import TASKS as SPEED_TASKS
from measuring import RUNS, Measured, measured, now, side_by_side, trained, write, write_found

from robustad._memory import keep_freed_memory
from robustad.data import ImageDataset
from robustad.detectors import PatchCore, PatchCoreConfig, save_checkpoint
from robustad.detectors.base import IMAGENET_MEAN, IMAGENET_STD
from robustad.evaluation import Suite, aggregate_seeds
from robustad.workflows._data import DataConfig, load_split
from robustad.workflows._run import CHECKPOINT
from robustad.workflows.fit import FitConfig, fit_config

ELPV = DataConfig(data="elpv", category="mono")
NEW_MODULES = DataConfig(data="elpv", category="mono-new-modules")
SEEDS = (0, 1, 2)
MTD = DataConfig(data="mtd")
RECIPE_OF = {"elpv": "default", "mtd": "texture"}


def configured(data: DataConfig, *, seed: int, minutes: float, model: dict[str, Any] | None = None) -> FitConfig:
    """The recipe that suits some data, for some time."""
    config = fit_config(RECIPE_OF[str(data.data)])
    return dataclasses.replace(
        config,
        data=data,
        model=dataclasses.replace(config.model, **(model or {})),
        training=dataclasses.replace(config.training, seed=seed, max_time=60.0 * minutes),
    )


def patch_memory(data: DataConfig, seed: int, name: str) -> Path:
    """A PatchCore-like memory of the training images."""
    folder = RUNS / name / CHECKPOINT
    if not (folder / "config.json").exists():
        config = PatchCoreConfig(image_size=128)
        dataset = ImageDataset(load_split(data, seed=seed).train, config.image_size, cache_dir=RUNS / "cache")
        batches = (dataset[i]["image"][None].float() / 255 for i in range(0, len(dataset), 2))
        save_checkpoint(folder, PatchCore(config).fit(batches))
    return folder


def solar_cells(data: DataConfig, task: str) -> None:
    """Monocrystalline cells, three seeds; what is transferred comes from the next seed's detector."""
    started, jobs = now(), dict[str, Callable[[], Measured]]()
    suite = Suite(attacks=("published-pgd", "pgd", "ensemble"), steps=10, strong_steps=20, restarts=2)
    names = [f"{data.label.replace(':', '-')}-{seed}" for seed in SEEDS]
    for seed, name in enumerate(names):
        options: dict[str, Any] = {"seed": seed, "epsilons": (2 / 255,), "suite": suite}
        jobs[name] = partial(judged, data, name, other=RUNS / names[(seed + 1) % len(names)] / CHECKPOINT, **options)
        jobs[f"{name}-patchcore"] = partial(remembered, data, f"{name}-patchcore", **options)
    side_by_side({n: partial(trained, configured(data, seed=s, minutes=5), n) for s, n in enumerate(names)})
    found = side_by_side(jobs)
    rows = aggregate_seeds(dict.fromkeys(row for job in found.values() for row in job.rows))
    write(task, rows, command=_command(task), started=started, details={k: job.details for k, job in found.items()})


def mtd() -> None:
    """Magnetic tiles, one seed, image and pixel figures, clean and attacked at 1, 2 and 4 /255; worst case at 2/255."""
    started = now()
    suite = Suite(attacks=("pgd", "adaptive-pgd", "map-pgd"), steps=10, strong_steps=20, restarts=1)
    options: dict[str, Any] = {"seed": 0, "epsilons": (1 / 255, 2 / 255, 4 / 255), "suite": suite}
    side_by_side({"mtd-0": partial(trained, configured(MTD, seed=0, minutes=20), "mtd-0")})
    worst = Suite(attacks=("ensemble",), steps=10, strong_steps=20, restarts=1)
    hard: dict[str, Any] = {"seed": 0, "epsilons": (2 / 255,), "suite": worst, "health": False}
    jobs = {
        "patchguard": partial(judged, MTD, "mtd-0", **options),
        "patchguard, worst case": partial(judged, MTD, "mtd-0", **hard),
        "patchcore": partial(remembered, MTD, "mtd-patchcore-0", **options),
    }
    write_found("mtd", side_by_side(jobs), started)


def judged(data: DataConfig, name: str, **options: Any) -> Measured:
    """A trained detector on the `final` half."""
    return measured(RUNS / name / CHECKPOINT, data, recipe=RECIPE_OF[str(data.data)], part="final", **options)


def remembered(data: DataConfig, name: str, *, suite: Suite, **options: Any) -> Measured:
    """A memory of patches on the `final` half, under a quick attack."""
    memory, quick = patch_memory(data, options["seed"], name), dataclasses.replace(suite, attacks=("pgd",))
    rows, details = measured(memory, data, suite=quick, recipe="imagenet", part="final", **options)
    return Measured([row for row in rows if row.detector == "patchcore"], details)


FROM_NOTHING: dict[str, Any] = {"weights": "none", "mean": IMAGENET_MEAN, "std": IMAGENET_STD}
BACKBONE_CHOICES: dict[str, dict[str, Any]] = {
    "vit_reference": {"backbone": "vit_reference", **FROM_NOTHING},
    "vit_texture": {"backbone": "vit_texture", **FROM_NOTHING},
    "vit_plain": {"backbone": "vit_plain", **FROM_NOTHING},
    "hybrid": {"backbone": "hybrid", "weights": "embedded", "mean": (0.5,) * 3, "std": (0.5,) * 3},
}


def backbones() -> None:
    """Backbones at equal wall time (3 minutes), adaptive attack at 2/255, on the `dev` halves of `elpv` and `mtd`."""
    started = now()
    suite = Suite(attacks=("adaptive-pgd",), strong_steps=20, restarts=1)
    rows, details = [], {}
    for data in (ELPV, MTD):
        for name, model in BACKBONE_CHOICES.items():
            run = f"backbone-{name}-{data.data}"
            checkpoint = trained(configured(data, seed=0, minutes=3, model=model), run)
            part, details[run] = measured(
                checkpoint, data, seed=0, part="dev", epsilons=(2 / 255,), suite=suite, recipe=name
            )
            rows += part if name == "vit_reference" else [row for row in part if row.detector == "patchguard"]
    write("backbones", rows, command=_command("backbones"), started=started, details=details)


def _command(task: str) -> str:
    return f"python tools/evidence.py {task}"


TASKS = {
    "elpv": partial(solar_cells, ELPV, "elpv"),
    "elpv-modules": partial(solar_cells, NEW_MODULES, "elpv-modules"),
    "mtd": mtd,
    "backbones": backbones,
    **COBRA_TASKS,
    **CERTIFIED_TASKS,
}
SEPARATE = {**SPEED_TASKS, **ROBUSTNESS_TASKS, **HARDER_TASKS}
"""Tasks that take many hours, need the environment of anomalib (`evidence_robustness`), or go on from there."""


def main() -> None:
    """Run what the command line names."""
    keep_freed_memory()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("task", choices=[*TASKS, *SEPARATE, "all"])
    chosen = parser.parse_args().task
    for name, task in {**TASKS, **SEPARATE}.items():
        if chosen == name or (chosen == "all" and name in TASKS):
            task()


if __name__ == "__main__":
    main()
