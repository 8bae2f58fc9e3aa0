"""``robustad fit``: train a detector."""

from __future__ import annotations

import contextlib
import itertools
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from robustad.cli.faults import UsageError, usage
from robustad.cli.options import (
    DATA_FLAGS,
    DATA_SWITCHES,
    check_resume,
    chosen_data,
    chosen_recipe,
    instantiate,
    nested_defaults,
)
from robustad.cli.output import facts
from robustad.cli.parsing import Parser
from robustad.workflows._command import command_line

_SHORT_FORMS = {
    **DATA_FLAGS,
    "--epsilon": "training.epsilon",
    "--seed": "training.seed",
    "--max-time": "training.max_time",
    "--max-steps": "training.max_steps",
    "--max-epochs": "training.max_epochs",
    "--batch-size": "training.batch_size",
    "--image-size": "model.image_size",
}
_EPILOG = """\
Times are written 300, 90s, 5m or 1h30m; radii 8/255 or 0.03. A time becomes a fixed number of steps after the first
steps have been timed. Everything of a run lies in its folder (--run-dir): config, log, resume state, checkpoint.
--run-dir DIR --resume goes on with an interrupted run, with the options that it was started with."""


def build(words: Sequence[str] = ()) -> Parser:
    """The parser of this command, with the defaults of the recipe that the words ask for."""
    from robustad.training import FIRST_RECIPES
    from robustad.workflows.fit import fit_config

    check_resume(words)
    parser = Parser(
        "fit",
        "Train a detector on normal images.",
        short_forms=_SHORT_FORMS,
        switches=DATA_SWITCHES,
        epilog=_EPILOG,
        usage="robustad fit [--data NAME | --normal DIR] [--config FILE] [--run-dir DIR] [options]",
    )
    parser.add_argument("--run-dir", type=str, default=None, help="folder of this run; default: runs/DATA-TIME")
    parser.add_argument("--resume", action="store_true", help="go on with the run in --run-dir")
    parser.add_argument("--detector", default=None, help=f"{' or '.join(FIRST_RECIPES)}: its first recipe")
    with usage():
        config = fit_config(chosen_recipe(words, FIRST_RECIPES), chosen_data(words))
    parser.add_config(type(config))
    parser.set_defaults(nested_defaults(config))
    return parser


def run(arguments: Any) -> int:
    """Run it."""
    from robustad.workflows.fit import fit, fit_config, resume_config

    if arguments.resume:
        if arguments.run_dir is None:
            raise UsageError("--resume needs --run-dir: the folder of the run to go on with")
        config = resume_config(arguments.run_dir)
    else:
        config = instantiate(type(fit_config(arguments.recipe)), arguments)
    _check_detector(arguments.detector, config)
    with contextlib.ExitStack() as stack:
        if arguments.run_dir is None:
            arguments.run_dir = _new_run_dir(config.data.label)
            stack.callback(_remove_empty, Path(arguments.run_dir))
        result = fit(config, Path(arguments.run_dir), resume=arguments.resume)
    values: dict[str, object] = {"checkpoint": result.checkpoint, "steps": f"{result.steps:,}"}
    values["time"] = f"{result.seconds:.0f} s"
    values |= {name: f"{value:.4g}" if isinstance(value, float) else value for name, value in result.figures.items()}
    images = "" if result.testable else " --normal DIR --anomalous DIR   (the data of the training show no anomaly)"
    facts({**values, "next": f"{command_line('robustad', 'test', str(result.checkpoint))}{images}"})
    return 0


def resume_hint(arguments: Any) -> str:
    """What to do after Ctrl-C."""
    if arguments.run_dir and (Path(arguments.run_dir) / "config.json").exists():
        return f"go on with: {command_line('robustad', 'fit', '--run-dir', arguments.run_dir, '--resume')}"
    return "training had not begun: give the same command again"


def _check_detector(asked: str | None, config: Any) -> None:
    trained = config.detector_class.name
    if asked not in (None, trained):
        raise UsageError(f"recipe {config.recipe!r} trains {trained}, not {asked}; leave out --detector or the recipe")


def _remove_empty(folder: Path) -> None:
    with contextlib.suppress(OSError):
        folder.rmdir()


def _new_run_dir(label: str) -> str:
    """A folder that no other run has, even one that begins in the same second."""
    name = f"runs/{label.replace(':', '-')}-{time.strftime('%Y%m%d-%H%M%S')}"
    for folder in itertools.chain([name], (f"{name}-{number}" for number in itertools.count(2))):
        with contextlib.suppress(FileExistsError):
            Path(folder).mkdir(parents=True)
            return folder
    raise AssertionError
