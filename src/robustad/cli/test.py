"""``robustad test``: measure a detector, clean and under attack."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from robustad.cli.options import add_data_flags, data_config
from robustad.cli.output import facts, show, warn
from robustad.cli.parsing import Parser

_EPILOG = """\
Without data options the detector is tested on the data that it was trained for. An interrupted test goes on when the
same command is given again. Radii are written 8/255 or 0.03."""


def build(words: Sequence[str] = ()) -> Parser:
    """The parser of this command."""
    from robustad.corruptions import CORRUPTIONS, GROUPS
    from robustad.evaluation import SUITE
    from robustad.reporting import format_epsilon
    from robustad.workflows.test_config import RADII, TestConfig

    default = TestConfig()
    usage = "robustad test CHECKPOINT [--data NAME | --normal DIR] [--attacks ...] [--epsilons ...] [options]"
    parser = Parser("test", "Measure a detector, clean and under attack; write a report.", epilog=_EPILOG, usage=usage)
    add = parser.add_argument
    add("checkpoint", type=str, help="folder of a checkpoint, NAME.onnx, or anomalib:PATH.ckpt")
    add("--out", type=str, default=None, help="folder for report.html and results.json; default: test, beside it")
    add_data_flags(parser)
    add("--attacks", type=str, nargs="+", default=None, help=f"out of {', '.join(SUITE)}; default: those that apply")
    add(
        "--epsilons",
        type=float,
        nargs="+",
        default=None,
        help=f"radii; default: {' '.join(map(format_epsilon, default.radii))}; l2: {' '.join(map(str, RADII['l2']))}",
    )
    add("--norm", type=str, default=None, help=f"of perturbations: linf or l2; default: {default.norm}")
    add(
        "--targets", type=str, default=None, help=f"attack both, anomalous or normal images; default: {default.targets}"
    )
    add("--part", type=str, default=None, help=f"all, dev or final: half of the test set; default: {default.part}")
    add("--steps", type=int, default=None, help=f"steps of published-pgd and pgd; default: {default.steps}")
    add("--strong-steps", type=int, default=None, help=f"steps of all other attacks; default: {default.strong_steps}")
    add("--restarts", type=int, default=None, help=f"runs of the strong attacks; default: {default.restarts}")
    add("--queries", type=int, default=None, help=f"queries of square; default: {default.queries}")
    add("--stop-early", action="store_true", help="spare images that rank behind all of the other class already")
    corruptions = ", ".join([*GROUPS, *CORRUPTIONS])
    add("--corruptions", type=str, nargs="+", default=None, help=f"groups or single ones, out of {corruptions}")
    add("--severities", type=int, nargs="+", default=None, help="severities of corruptions, 1 to 5; default: 1 3 5")
    add("--stickers", type=float, nargs="+", default=None, help="sides of stickers, as shares of the image's side")
    add("--universal", type=float, nargs="+", default=None, help="radii of one perturbation for all images, L-inf")
    add("--certify", type=float, default=None, help="smooth with noise of this spread and say what is certain in L2")
    radii = " ".join(map(str, default.certify_radii))
    add("--certify-radii", type=float, nargs="+", default=None, help=f"L2 radii of certificates; default: {radii}")
    add("--certify-samples", type=int, default=None, help=f"noisy copies; default: {default.certify_samples}")
    add("--max-images", type=int, default=None, help="test at most so many images")
    add("--seed", type=int, default=None, help=f"of random starts; default: {default.seed}")
    add("--batch-size", type=int, default=None, help=f"images per pass; default: {default.batch_size}")
    add("--transfer", type=str, default=None, help="another checkpoint, whose adversarial images are tried, too")
    add("--no-health", action="store_true", help="do not examine whether the attacked figures can be believed")
    add("--device", type=str, default=None, help=f"auto, cpu, cuda, ...; default: {default.device}")
    return parser


def run(arguments: Any) -> int:
    """Run it."""
    from robustad.workflows._candidate import default_out
    from robustad.workflows.test import console_table, test
    from robustad.workflows.test_config import TestConfig

    # what is not given is left to the dataclass, which knows the defaults
    names = (
        "norm",
        "targets",
        "part",
        "steps",
        "strong_steps",
        "restarts",
        "queries",
        "certify",
        "certify_samples",
        "max_images",
        "seed",
        "batch_size",
        "device",
    )
    options = {name: arguments[name] for name in names if arguments[name] is not None}
    several = ("attacks", "epsilons", "corruptions", "severities", "certify_radii", "stickers", "universal")
    options |= {name: tuple(arguments[name]) for name in several if arguments[name] is not None}
    if arguments.transfer:
        options["transfer"] = Path(arguments.transfer)
    config = TestConfig(health=not arguments.no_health, stop_early=arguments.stop_early, **options)
    out = Path(arguments.out) if arguments.out else default_out(arguments.checkpoint)
    result = test(arguments.checkpoint, data_config(arguments), config, out)
    show(console_table(result.rows))
    warn(result.verdicts)
    facts({"report": result.report, "results": result.results})
    return 0


def resume_hint(arguments: Any) -> str:
    """What to do after Ctrl-C."""
    return "give the same command again to go on"
