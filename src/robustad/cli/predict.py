"""``robustad predict``: score files and folders."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

from robustad.cli.faults import PARTIAL, usage
from robustad.cli.output import note, say
from robustad.cli.parsing import Parser

_EPILOG = """\
Rows are written in the order of the images: path, score (higher = more anomalous), anomalous (if the checkpoint has a
threshold), error. While it runs they lie in OUT.partial.jsonl; after an interruption --resume goes on with that file.
All overlays of a run share one colour scale: the checkpoint's map_range if it has one; else from the median of the
first batch's maps to where the threshold lies at 60 % or, without threshold, to their 99.9 % quantile. --map-range sets
it, e.g. to that of an earlier run. Exit code 3: a table was written, but some files could not be read."""


def build(words: Sequence[str] = ()) -> Parser:
    """The parser of this command."""
    parser = Parser("predict", "Score images and write a table and, if asked for, heat maps.", epilog=_EPILOG)
    parser.add_argument("checkpoint", type=str, help="folder of a checkpoint")
    parser.add_argument("images", type=str, nargs="+", help="files, folders, globs; - reads paths from standard input")
    parser.add_argument("--out", type=str, default="scores.csv", help="table ending in .csv, .jsonl or .parquet")
    parser.add_argument("--overlays", type=str, default=None, help="folder for heat maps as PNG")
    parser.add_argument("--map-range", type=float, nargs=2, default=None, help="map values: transparent, hottest")
    parser.add_argument("--batch-size", type=int, default=16, help="images per forward pass")
    parser.add_argument("--num-workers", type=int, default=0, help="reading threads; 0 = one per two processors")
    parser.add_argument("--device", type=str, default="auto", help="auto, cpu, cuda, cuda:1, ...")
    parser.add_argument("--resume", action="store_true", help="go on with an interrupted run of the same arguments")
    return parser


def run(arguments: Any) -> int:
    """Run it."""
    from robustad.workflows.predict import PredictConfig, predict

    with usage():
        config = PredictConfig(
            overlays=Path(arguments.overlays) if arguments.overlays else None,
            map_range=tuple(arguments.map_range) if arguments.map_range else None,
            batch_size=arguments.batch_size,
            num_workers=arguments.num_workers,
            device=arguments.device,
            resume=arguments.resume,
        )
    if hasattr(sys.stdin, "reconfigure"):  # names of files may be any bytes
        sys.stdin.reconfigure(encoding=sys.getfilesystemencoding(), errors="surrogateescape")
    result = predict(arguments.checkpoint, arguments.images, arguments.out, config=config, stdin=sys.stdin)
    scored = result.num_images - result.num_failed
    decided = result.num_anomalous is not None
    verdict = f", {result.num_anomalous:,} anomalous" if decided else " (the checkpoint has no threshold: no decisions)"
    say(f"{scored:,} images scored{verdict}: {result.out}")
    if result.map_range is not None:
        low, high = (format(Decimal(f"{value:.6g}"), "f") for value in result.map_range)  # no 1e-05: it starts with -
        say(f"overlays: {arguments.overlays} (the same colours elsewhere: --map-range {low} {high})")
    if result.num_failed:
        note(f"{result.num_failed:,} of {result.num_images:,} files could not be used; the first: {result.first_error}")
        return PARTIAL
    return 0


def resume_hint(arguments: Any) -> str:
    """What to do after Ctrl-C."""
    return f"what was scored is in {arguments.out}.partial.jsonl: run the same command with --resume"
