"""``robustad test``: measure a detector, clean and under attack."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from robustad.cli.faults import UsageError
from robustad.cli.options import add_data_flags, data_config
from robustad.cli.output import facts, note, show, warn
from robustad.cli.parsing import Parser
from robustad.cli.threats import add_attacks, add_other_threats

if TYPE_CHECKING:
    from robustad.workflows.test_config import TestConfig

_EPILOG = """\
Without data options the detector is tested on the data that it was trained for. An interrupted test goes on when the
same command is given again. Radii are written 8/255 or 0.03."""

_FLAGS = {
    "epsilon": "epsilons",
    "sigma": "certify",
    "radii": "certify_radii",
    "samples": "certify_samples",
    "side": "stickers",
}
"""Flags that are not called what the library calls them."""


def build(words: Sequence[str] = ()) -> Parser:
    """The parser of this command."""
    from robustad.workflows.test_config import TestConfig

    default = TestConfig()
    usage = "robustad test CHECKPOINT [--data NAME | --normal DIR] [--attacks ...] [--epsilons ...] [options]"
    parser = Parser("test", "Measure a detector, clean and under attack; write a report.", epilog=_EPILOG, usage=usage)
    add = parser.add_argument
    add("checkpoint", type=str, help="folder of a checkpoint, NAME.onnx, or anomalib:PATH.ckpt")
    add(
        "--out",
        type=str,
        default=None,
        help="folder for report.html and results.json; default: test, test-2, ... beside it",
    )
    add_data_flags(parser)
    add_attacks(parser, default)
    add_other_threats(parser, default)
    add("--part", type=str, default=None, help=f"all, dev or final: half of the test set; default: {default.part}")
    add("--max-images", type=int, default=None, help="test at most so many images")
    add("--seed", type=int, default=None, help=f"of random starts; default: {default.seed}")
    add("--batch-size", type=int, default=None, help=f"images per pass; default: {default.batch_size}")
    add(
        "--image-size",
        type=int,
        default=None,
        help="side of images from elsewhere, where the file leaves it open",
    )
    add("--no-health", action="store_true", help="do not examine whether the attacked figures can be believed")
    add("--device", type=str, default=None, help=f"auto, cpu, cuda, ...; default: {default.device}")
    return parser


def run(arguments: Any) -> int:
    """Run it."""
    from robustad.workflows.test import console_table, free_out, test

    config = _config(arguments)
    data = data_config(arguments)
    out = Path(arguments.out) if arguments.out else free_out(arguments.checkpoint, data, config)
    result = test(arguments.checkpoint, data, config, out)
    show(console_table(result.rows))
    warn(result.verdicts)
    if result.caution:
        note(result.caution)
    facts({"report": result.report, "results": result.results})
    return 0


def _config(arguments: Any) -> TestConfig:
    """The options of a test; what is not given is left to the dataclass, which knows the defaults."""
    from robustad.workflows.test_config import TestConfig

    names = (
        "norm",
        "targets",
        "part",
        "steps",
        "strong_steps",
        "restarts",
        "queries",
        "precision",
        "where",
        "draws",
        "sticker_draws",
        "certify",
        "certify_samples",
        "max_images",
        "seed",
        "batch_size",
        "image_size",
        "device",
    )
    options = {name: arguments[name] for name in names if arguments[name] is not None}
    several = ("attacks", "epsilons", "corruptions", "severities", "certify_radii", "stickers", "universal")
    options |= {name: tuple(arguments[name]) for name in several if arguments[name] is not None}
    if arguments.transfer:
        options["transfer"] = Path(arguments.transfer)
    try:
        return TestConfig(health=not arguments.no_health, stop_early=arguments.stop_early, **options)
    except ValueError as error:
        raise UsageError(_in_flags(str(error))) from error


def _in_flags(message: str) -> str:
    """An error about options of `TestConfig` and of what it is made of, in the words of the command line."""
    return re.sub(r"`([a-z_]+)`", lambda found: "--" + _FLAGS.get(found[1], found[1]).replace("_", "-"), message)


def resume_hint(arguments: Any) -> str:
    """What to do after Ctrl-C."""
    return "give the same command again to go on"
