"""``robustad visualize``: pictures of chosen images, before and after an attack."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from robustad.cli.faults import PARTIAL, usage
from robustad.cli.output import note, say, table
from robustad.cli.parsing import Parser

_EPILOG = """\
Each picture shows: image, ground truth if known, anomaly map, attacked image, map under attack. The attack drives the
reported score the wrong way: up for normal images (NAME.raised.png), down for anomalous ones (NAME.lowered.png).
--label says which they are; auto asks the mask, else the checkpoint's threshold, and makes both pictures if there is
neither."""


def build(words: Sequence[str] = ()) -> Parser:
    """The parser of this command."""
    parser = Parser("visualize", "Draw image, map, attacked twin and its map.", epilog=_EPILOG)
    parser.add_argument("checkpoint", type=str, help="folder of a checkpoint")
    parser.add_argument("images", type=str, nargs="+", help="files, folders, globs")
    parser.add_argument("--out", type=str, default="pictures", help="folder for the pictures")
    parser.add_argument(
        "--epsilon", type=float, default=None, help="radius of the attack, e.g. 8/255; default: as trained; 0 = none"
    )
    parser.add_argument("--steps", type=int, default=10, help="gradient steps of the attack")
    parser.add_argument("--restarts", type=int, default=1, help="runs of the attack, further ones from random starts")
    parser.add_argument("--label", type=str, default="auto", help="auto, normal, anomalous or both")
    parser.add_argument("--masks", type=str, default=None, help="folder of ground truth, named as the images")
    parser.add_argument("--batch-size", type=int, default=16, help="images per forward pass")
    parser.add_argument("--device", type=str, default="auto", help="auto, cpu, cuda, cuda:1, ...")
    parser.add_argument("--seed", type=int, default=0, help="of the random starts")
    return parser


def run(arguments: Any) -> int:
    """Run it."""
    from robustad.workflows.visualize import VisualizeConfig, visualize

    with usage():
        config = VisualizeConfig(
            epsilon=arguments.epsilon,
            steps=arguments.steps,
            restarts=arguments.restarts,
            label=arguments.label,
            masks=Path(arguments.masks) if arguments.masks else None,
            batch_size=arguments.batch_size,
            device=arguments.device,
            seed=arguments.seed,
        )
    shown = visualize(arguments.checkpoint, arguments.images, arguments.out, config=config)
    drawn = [entry for entry in shown if entry.picture is not None]
    rows = [(str(entry.picture), _number(entry.score), _number(entry.attacked_score)) for entry in drawn]
    table(["picture", "score", "under attack"], rows)
    say(f"{len(drawn)} pictures: {arguments.out}")
    errors = [entry.error for entry in shown if entry.error]
    for error in errors:
        note(error)
    return PARTIAL if errors else 0


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"
