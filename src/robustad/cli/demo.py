"""``robustad demo``: the main job on real images, start to end."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from robustad.cli.faults import usage
from robustad.cli.output import facts, show, warn
from robustad.cli.parsing import Parser


def build(words: Sequence[str] = ()) -> Parser:
    """The parser of this command."""
    parser = Parser("demo", "Train a detector on solar cells, attack it, and write a report.")
    from robustad.training import FIRST_RECIPES

    parser.add_argument("--detector", type=str, default="patchguard", help=f"{' or '.join(FIRST_RECIPES)}")
    parser.add_argument("--run-dir", type=str, default="runs/demo", help="folder for everything that is written")
    parser.add_argument("--max-time", type=float, default=180.0, help="time of training, e.g. 90s, 5m")
    parser.add_argument("--seed", type=int, default=0, help="of training and of which images are set aside")
    parser.add_argument("--overwrite", action="store_true", help="replace an earlier demo in the same folder")
    return parser


def run(arguments: Any) -> int:
    """Run it."""
    from robustad._checks import check_choice
    from robustad.training import FIRST_RECIPES
    from robustad.workflows.demo import demo
    from robustad.workflows.test import console_table

    with usage():
        check_choice("detector", arguments.detector, FIRST_RECIPES)
    result = demo(
        arguments.run_dir,
        detector=arguments.detector,
        max_time=arguments.max_time,
        seed=arguments.seed,
        overwrite=arguments.overwrite,
    )
    show(console_table(result.test.rows))
    warn(result.test.verdicts)
    facts({"report": result.test.report, "results": result.test.results, "checkpoint": result.checkpoint})
    return 0


def resume_hint(arguments: Any) -> str:
    """What to do after Ctrl-C."""
    return "start it again with --overwrite"
