"""``robustad masks``: foreground masks for training images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from robustad.cli.faults import PARTIAL, UsageError
from robustad.cli.output import note, say
from robustad.cli.parsing import Parser

_OUT = "folder of the masks; default: FOLDER_foreground_mask beside it (foreground_mask beside good, ok, normal, train)"


def build(words: Sequence[str] = ()) -> Parser:
    """The parser of this command."""
    parser = Parser("masks", "Find the foreground of each image, and draw a sheet to check it by eye.")
    parser.add_argument("images", type=str, help="folder of images, sub-folders included")
    parser.add_argument("--out", type=str, default=None, help=_OUT)
    parser.add_argument("--method", type=str, default="classical", help="classical, cam (Grad-CAM) or none (all of it)")
    parser.add_argument("--sheet", type=str, default=None, help="contact sheet; default: OUT_sheet.png")
    parser.add_argument("--sheet-images", type=int, default=24, help="images on the sheet")
    parser.add_argument("--keep", action="store_true", help="keep masks that exist, e.g. those corrected by hand")
    parser.add_argument("--overwrite", action="store_true", help="make masks again that exist")
    return parser


def run(arguments: Any) -> int:
    """Run it."""
    from robustad.workflows._command import command_line
    from robustad.workflows.masks import masks

    result = masks(
        arguments.images,
        arguments.out,
        method=arguments.method,
        sheet=arguments.sheet,
        sheet_images=arguments.sheet_images,
        overwrite=_overwrite(arguments),
    )
    say(f"{result.num_masks:,} masks: {result.out}")
    say(f"look at them first: {result.sheet}")
    words = ("robustad", "fit", "--normal", str(arguments.images), "--data.foreground", str(result.out))
    say(f"then: {command_line(*words)} (a data set finds its own)")
    for error in result.errors:
        note(error)
    return PARTIAL if result.errors else 0


def _overwrite(arguments: Any) -> bool | None:
    if arguments.keep and arguments.overwrite:
        raise UsageError("--keep and --overwrite contradict each other; give one of them")
    return True if arguments.overwrite else False if arguments.keep else None


def resume_hint(arguments: Any) -> str:
    """What to do after Ctrl-C."""
    return "the masks written so far are whole: the same command with --keep (instead of --overwrite) goes on"
