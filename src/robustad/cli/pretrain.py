"""``robustad pretrain``: weights to start from, out of procedural images."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from robustad.cli.options import check_resume, instantiate, nested_defaults
from robustad.cli.output import facts
from robustad.cli.parsing import Parser
from robustad.workflows._command import command_line

_SHORT_FORMS = {
    "--epsilon": "training.epsilon",
    "--seed": "training.seed",
    "--max-time": "training.max_time",
    "--max-steps": "training.max_steps",
    "--batch-size": "training.batch_size",
    "--image-size": "model.image_size",
    "--backbone": "model.backbone",
}
_EPILOG = """\
Nothing but seeds goes in: no photograph, no data set, no other network's weights. Out comes weights.safetensors, with
a JSON beside it, for  robustad fit --model.weights RUN_DIR/weights.safetensors  (same backbone, any image size).
--run-dir DIR --resume goes on with an interrupted run, with the options that it was started with."""


def build(words: Sequence[str] = ()) -> Parser:
    """The parser of this command."""
    from robustad.workflows.pretrain import PretrainConfig

    check_resume(words)
    parser = Parser(
        "pretrain",
        "Train on procedural images only, adversarially: weights that `robustad fit` may start from.",
        short_forms=_SHORT_FORMS,
        epilog=_EPILOG,
        usage="robustad pretrain [--run-dir DIR] [--max-time TIME | --max-steps N] [--resume] [options]",
    )
    parser.add_argument("--run-dir", type=str, default="runs/pretrain", help="folder of this run")
    parser.add_argument("--resume", action="store_true", help="go on with the run in --run-dir")
    parser.add_config(PretrainConfig)
    parser.set_defaults(nested_defaults(PretrainConfig()))
    return parser


def run(arguments: Any) -> int:
    """Run it."""
    from robustad.workflows.pretrain import PretrainConfig, pretrain, resume_pretrain_config

    given = arguments.run_dir
    config = resume_pretrain_config(given) if arguments.resume else instantiate(PretrainConfig, arguments)
    result = pretrain(config, Path(given), resume=arguments.resume)
    size = result.weights.stat().st_size / 1e6
    values: dict[str, object] = {"weights": f"{result.weights} ({size:.1f} MB)", "steps": f"{result.steps:,}"}
    values |= {"time": f"{result.seconds:.0f} s", "of that, images": f"{100 * result.scene_share:.0f} %"}
    values |= {name: f"{value:.4g}" for name, value in result.figures.items()}
    fit = command_line("robustad", "fit", "--normal", "DIR", "--model.weights", str(result.weights))
    facts({**values, "next": fit})
    return 0


def resume_hint(arguments: Any) -> str:
    """What to do after Ctrl-C."""
    if (Path(arguments.run_dir) / "config.json").exists():
        return f"go on with: {command_line('robustad', 'pretrain', '--run-dir', arguments.run_dir, '--resume')}"
    return "pretraining had not begun: give the same command again"
