"""The main job on real images that a package brings along: train, attack, report, in a few minutes on two cores."""

from __future__ import annotations

import dataclasses
import shutil
from dataclasses import dataclass
from pathlib import Path

from robustad.workflows._data import DataConfig
from robustad.workflows.fit import CONFIG_FILE, fit, fit_config
from robustad.workflows.test import TestConfig, TestResult, test

DATA = DataConfig(data="elpv", category="mono")
TEST = TestConfig(
    attacks=("published-pgd", "pgd", "ensemble"),
    epsilons=(1 / 255, 2 / 255, 4 / 255),
    restarts=1,
    part="final",
    max_images=80,
)


@dataclass(frozen=True)
class DemoResult:
    """What the demo leaves behind.

    Attributes:
        checkpoint: The trained detector.
        test: Its figures and the report.
    """

    checkpoint: Path
    test: TestResult


def demo(run_dir: str | Path, *, max_time: float = 180.0, seed: int = 0, overwrite: bool = False) -> DemoResult:
    """Train PatchGuard on solar cells (`elpv`, monocrystalline) and test it under attack.

    Args:
        run_dir: Folder for everything that is written.
        max_time: Seconds of training.
        seed: Seed of training and of which normal images are set aside.
        overwrite: Replace what an earlier demo left in ``run_dir``.

    Raises:
        MissingExtra: If the packages of the extra ``demo`` are not installed.
        CheckpointError: If ``run_dir`` already holds a run, and ``overwrite`` is False.
    """
    run = Path(run_dir)
    if overwrite and (run / CONFIG_FILE).is_file():
        shutil.rmtree(run)
    config = fit_config("default")
    training = dataclasses.replace(config.training, max_time=max_time, max_steps=None, seed=seed)
    fitted = fit(dataclasses.replace(config, data=DATA, training=training), run)
    tested = test(fitted.checkpoint, None, TEST, run / "test", command=f"robustad demo --run-dir {run} --seed {seed}")
    return DemoResult(fitted.checkpoint, tested)
