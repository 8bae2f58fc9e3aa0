"""The folder of a training run, and what lies in it: claimed once everything is prepared, and read again to go on."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from robustad.errors import CheckpointError
from robustad.files import read_json, write_json

CONFIG_FILE, LOG_FILE, CHECKPOINT = "config.json", "log.jsonl", "checkpoint"


@contextmanager
def claimed(run: Path, config: Any, *, resume: bool) -> Iterator[None]:
    """The folder holds a run from the moment that everything is prepared; an error before leaves none behind.

    Foreground masks stay: each is whole, costs time, and is used again.

    Args:
        run: The folder.
        config: What is written to it: has ``to_dict``.
        resume: The folder already holds the run.

    Raises:
        CheckpointError: If it holds one and is not to be resumed.
    """
    if resume:
        yield
        return
    if (run / CONFIG_FILE).exists():
        raise CheckpointError(f"{run} already holds a run; continue it with --resume, or choose another --run-dir")
    before = set(run.iterdir()) if run.exists() else None
    run.mkdir(parents=True, exist_ok=True)
    try:
        yield
        write_json(run / CONFIG_FILE, config.to_dict())
    except Exception:
        if run / "cache" not in (before or ()):
            shutil.rmtree(run / "cache", ignore_errors=True)
        (run / LOG_FILE).unlink(missing_ok=True)
        if before is None:
            with contextlib.suppress(OSError):  # masks are in it
                run.rmdir()
        raise


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
