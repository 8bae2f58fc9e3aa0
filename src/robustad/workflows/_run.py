"""The folder of a training run, and what lies in it: claimed once everything is prepared, and read again to go on."""

from __future__ import annotations

import contextlib
import dataclasses
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from robustad.errors import CheckpointError
from robustad.files import read_json, write_json
from robustad.training.state import STATE_FILE

CONFIG_FILE, LOG_FILE, CHECKPOINT = "config.json", "log.jsonl", "checkpoint"


@contextmanager
def claimed(run: Path, config: Any, *, resume: bool) -> Iterator[None]:
    """The folder holds a run from here on; an error or an interruption in this block leaves none behind.

    Foreground masks stay: each is whole, costs time, and is used again.

    Args:
        run: The folder.
        config: What is written to it: has ``to_dict``.
        resume: The folder already holds the run.

    Raises:
        CheckpointError: If it holds one and is not to be resumed, even one that began a moment ago, or one with other
            options is to be.
    """
    if resume:
        if differing := differences(run, config):
            raise CheckpointError(f"{run} was begun with other options: {', '.join(differing)} differ; start a new run")
        yield
        return
    before = set(run.iterdir()) if run.exists() else None
    run.mkdir(parents=True, exist_ok=True)
    try:
        (run / CONFIG_FILE).touch(exist_ok=False)
    except FileExistsError:
        text = f"{run} already holds a run; continue it with --resume, or choose another --run-dir"
        raise CheckpointError(text) from None
    try:
        write_json(run / CONFIG_FILE, config.to_dict())
        yield
    except BaseException:
        (run / CONFIG_FILE).unlink(missing_ok=True)
        if run / "cache" not in (before or ()):
            shutil.rmtree(run / "cache", ignore_errors=True)
        (run / LOG_FILE).unlink(missing_ok=True)
        if before is None:
            with contextlib.suppress(OSError):  # masks are in it
                run.rmdir()
        raise


def differences(run: Path, config: Any) -> list[str]:
    """Which options of a config, by name, are others than those that a run folder was started with."""
    stored, given = (_absolute(options).to_dict() for options in (config.from_dict(read_config(run)), config))
    return sorted(key for key in {*stored, *given} if stored.get(key) != given.get(key))


def _absolute(config: Any) -> Any:
    """The same with absolute paths of its images, where it has some."""
    return dataclasses.replace(config, data=config.data.resolved()) if hasattr(config, "data") else config


def goes_on(run: Path) -> bool:
    """Whether a run that is resumed has a state to go on from; one that was killed before its first begins again."""
    return (run / STATE_FILE).exists() or (run / CHECKPOINT).exists()


def forget(run: Path) -> None:
    """Delete what a run wrote into its folder, and the folder if nothing else is in it."""
    for name in ("cache", "foreground", "tensorboard", "test", CHECKPOINT):
        shutil.rmtree(run / name, ignore_errors=True)
    for name in (LOG_FILE, STATE_FILE, CONFIG_FILE):
        (run / name).unlink(missing_ok=True)
    with contextlib.suppress(OSError):
        run.rmdir()


def read_config(run_dir: str | Path) -> dict[str, Any]:
    """The plain config that a run folder was started with.

    Raises:
        CheckpointError: If it is no run folder.
    """
    path = Path(run_dir) / CONFIG_FILE
    if not path.is_file():
        raise CheckpointError(f"{run_dir} is no run folder: it has no {CONFIG_FILE}")
    config: dict[str, Any] = read_json(path)
    return config
