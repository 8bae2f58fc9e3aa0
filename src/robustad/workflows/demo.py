"""The main job on real images that a package brings along: train, attack, report, in a few minutes on two cores."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from robustad._checks import check_choice
from robustad.errors import CheckpointError
from robustad.training import FIRST_RECIPES
from robustad.workflows._command import command_line
from robustad.workflows._data import DataConfig, load_split
from robustad.workflows._run import CONFIG_FILE, forget
from robustad.workflows.fit import FitConfig, fit, fit_config, resume_config
from robustad.workflows.test import TestResult, test
from robustad.workflows.test_config import TestConfig

DATA = DataConfig(data="elpv", category="mono")
TEST = TestConfig(
    attacks=("published-pgd", "pgd", "ensemble"),
    epsilons=(1 / 255, 2 / 255, 4 / 255),
    restarts=1,
    part="final",
    max_images=80,
    queries=200,  # asked where a health check fails: a thousand would take longer than all the rest
)


@dataclass(frozen=True, kw_only=True)
class DemoOptions:
    """What the demo changes of a detector's first recipe, to be done in minutes on two cores.

    Attributes:
        model: Options of the architecture.
        training: Options of the training.
    """

    model: Mapping[str, Any] = field(default_factory=dict)
    training: Mapping[str, Any] = field(default_factory=dict)


OPTIONS: dict[str, DemoOptions] = {
    "patchguard": DemoOptions(),
    # at 128 pixels three minutes are too few updates to learn anything
    "cobra": DemoOptions(model={"image_size": 64}, training={"batch_size": 16}),
}
"""One row for each detector that has a recipe."""


@dataclass(frozen=True)
class DemoResult:
    """What the demo leaves behind.

    Attributes:
        checkpoint: The trained detector.
        test: Its figures and the report.
    """

    checkpoint: Path
    test: TestResult


def demo_config(detector: str) -> FitConfig:
    """How the demo trains a detector, by name: its first recipe, on the demo's data, with the row of `OPTIONS`."""
    row = OPTIONS[check_choice("detector", detector, FIRST_RECIPES)]
    config = fit_config(FIRST_RECIPES[detector], DATA.data)
    return dataclasses.replace(
        config,
        data=DATA,
        model=dataclasses.replace(config.model, **row.model),
        training=dataclasses.replace(config.training, **row.training),
    )


def demo(
    run_dir: str | Path,
    *,
    detector: str = "patchguard",
    max_time: float = 180.0,
    seed: int = 0,
    overwrite: bool = False,
) -> DemoResult:
    """Train a detector on solar cells (`elpv`, monocrystalline) and test it under attack.

    Args:
        run_dir: Folder for everything that is written.
        detector: A key of `FIRST_RECIPES`.
        max_time: Seconds of training.
        seed: Seed of training and of which normal images are set aside.
        overwrite: Replace what an earlier demo left in ``run_dir``.

    Raises:
        MissingExtra: If the packages of the extra ``demo`` are not installed.
        CheckpointError: If ``run_dir`` already holds a run, and ``overwrite`` is False, or what it holds is no demo.
        ValueError: If the detector is none that can be trained.
    """
    run, config = Path(run_dir), demo_config(detector)
    if (run / CONFIG_FILE).is_file() and not overwrite:
        raise CheckpointError(f"{run} already holds a run; --overwrite replaces a demo, or choose another --run-dir")
    if (run / CONFIG_FILE).is_file():
        load_split(DATA, seed=seed)  # if there are no images, there will be no new demo
        _forget_demo(run)
    training = dataclasses.replace(config.training, max_time=max_time, max_steps=None, seed=seed)
    fitted = fit(dataclasses.replace(config, training=training), run)
    options = ["--detector", detector, "--run-dir", str(run), "--seed", str(seed), "--max-time", f"{max_time:g}"]
    command = command_line("robustad", "demo", *options, "--overwrite")
    tested = test(fitted.checkpoint, None, TEST, run / "test", command=command)
    return DemoResult(fitted.checkpoint, tested)


def _forget_demo(run: Path) -> None:
    """Delete what a demo left in its folder."""
    try:
        data = resume_config(run).data
    except (ValueError, TypeError):
        data = None
    if data != DATA:
        raise CheckpointError(f"{run} holds something else than a demo and is left as it is; choose another --run-dir")
    forget(run)
