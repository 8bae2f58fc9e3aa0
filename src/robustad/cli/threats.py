"""The flags of `robustad test` that say what a detector has to bear."""

from __future__ import annotations

from typing import TYPE_CHECKING

from robustad.cli.parsing import Parser

if TYPE_CHECKING:
    from robustad.workflows.test_config import TestConfig


def add_attacks(parser: Parser, default: TestConfig) -> None:
    """Flags of small perturbations."""
    from robustad.evaluation import SUITE
    from robustad.reporting import format_epsilon
    from robustad.workflows.test_config import RADII

    add = parser.add_argument
    add("--attacks", type=str, nargs="+", default=None, help=f"out of {', '.join(SUITE)}; default: those that apply")
    radii = f"{' '.join(map(format_epsilon, default.radii))}; l2: {' '.join(map(str, RADII['l2']))}"
    add("--epsilons", type=float, nargs="+", default=None, help=f"radii; default: {radii}")
    add("--norm", type=str, default=None, help=f"of perturbations: linf or l2; default: {default.norm}")
    targets = f"attack both, anomalous or normal images; default: {default.targets}"
    add("--targets", type=str, default=None, help=targets)
    add("--steps", type=int, default=None, help=f"steps of published-pgd and pgd; default: {default.steps}")
    add("--strong-steps", type=int, default=None, help=f"steps of all other attacks; default: {default.strong_steps}")
    add("--restarts", type=int, default=None, help=f"runs of the strong attacks; default: {default.restarts}")
    add("--queries", type=int, default=None, help=f"queries of square, spsa and nes; default: {default.queries}")
    add("--stop-early", action="store_true", help="spare images that rank behind all of the other class already")
    where = "change pixels everywhere, or of the background or the foreground only"
    add("--where", type=str, default=None, help=f"{where}; default: {default.where}")
    add("--draws", type=int, default=None, help="calls that attacks average over, for detectors that draw at random")
    precision = "of long attacks: float32, bfloat16 (all but their last steps), or auto: where it is faster"
    add("--precision", type=str, default=None, help=f"{precision}; default: {default.precision}")
    add("--transfer", type=str, default=None, help="another checkpoint, whose adversarial images are tried, too")


def add_other_threats(parser: Parser, default: TestConfig) -> None:
    """Flags of corruptions, stickers, perturbations for all images, and certificates."""
    from robustad.corruptions import CORRUPTIONS, GROUPS

    add = parser.add_argument
    corruptions = ", ".join([*GROUPS, *CORRUPTIONS])
    add("--corruptions", type=str, nargs="+", default=None, help=f"groups or single ones, out of {corruptions}")
    add("--severities", type=int, nargs="+", default=None, help="severities of corruptions, 1 to 5; default: 1 3 5")
    add("--stickers", type=float, nargs="+", default=None, help="sides of stickers, as shares of the image's side")
    add(
        "--sticker-draws", type=int, default=None, help="turns and brightnesses a sticker has to work under; default: 1"
    )
    add("--universal", type=float, nargs="+", default=None, help="radii of one perturbation for all images, as --norm")
    add("--certify", type=float, default=None, help="smooth with noise of this spread and say what is certain in L2")
    radii = " ".join(map(str, default.certify_radii))
    add("--certify-radii", type=float, nargs="+", default=None, help=f"L2 radii of certificates; default: {radii}")
    add("--certify-samples", type=int, default=None, help=f"noisy copies; default: {default.certify_samples}")
