"""``robustad calibrate``: a threshold with a known rate of false alarms."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from robustad.cli.faults import PARTIAL, usage
from robustad.cli.output import note, promise, say
from robustad.cli.parsing import Parser

_EPILOG = """\
The threshold is the lowest that new normal images are expected above at no more than the given rate (split-conformal:
one more image than were looked at decides which score it is). One in a hundred needs 99 images, one in twenty 19. It
holds for images like those it was made from, which the detector must not have been trained on: without --normal, those
that the training set aside are taken. Exit code 3: a threshold was found, but some files could not be read."""


def build(words: Sequence[str] = ()) -> Parser:
    """The parser of this command."""
    parser = Parser("calibrate", "Find a threshold, and write it into the checkpoint: predict decides.", epilog=_EPILOG)
    parser.add_argument("checkpoint", type=str, help="folder of a checkpoint")
    parser.add_argument("--normal", type=str, nargs="+", default=None, help="files, folders, globs of normal images")
    parser.add_argument("--max-false-alarm-rate", type=float, default=0.01, help="of new normal images, expected")
    parser.add_argument("--out", type=str, default=None, help="folder of the new checkpoint; default: the same one")
    parser.add_argument("--batch-size", type=int, default=16, help="images per forward pass")
    parser.add_argument("--num-workers", type=int, default=0, help="reading threads; 0 = one per two processors")
    parser.add_argument("--device", type=str, default="auto", help="auto, cpu, cuda, cuda:1, ...")
    return parser


def run(arguments: Any) -> int:
    """Run it."""
    from robustad.workflows.calibrate import CalibrateConfig, calibrate

    with usage():
        config = CalibrateConfig(
            max_false_alarm_rate=arguments.max_false_alarm_rate,
            batch_size=arguments.batch_size,
            num_workers=arguments.num_workers,
            device=arguments.device,
        )
    result = calibrate(arguments.checkpoint, arguments.normal, out=arguments.out, config=config)
    say(f"threshold {promise(result.calibration)}")
    instead = "" if result.replaced is None else f" (instead of {result.replaced.threshold:.6g})"
    say(f"written to {result.out}{instead}: robustad predict decides by it")
    if result.num_objects is not None and result.num_objects < result.calibration.num_images:
        note(f"its images show {result.num_objects:,} object(s) only: what it lets through may vary more than that")
    if result.num_failed:
        note(f"{result.num_failed:,} files could not be used; the first: {result.first_error}")
        return PARTIAL
    return 0
