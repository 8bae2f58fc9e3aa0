"""``robustad import-official``: the authors' weights as a checkpoint."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from robustad.cli.options import add_data_flags, data_config
from robustad.cli.output import note, say
from robustad.cli.parsing import Parser

_EPILOG = """\
COBRA scores an image by its likeness to normal training images, which no released file holds: say with --normal or
--data where they are. PatchGuard needs none."""


def build(words: Sequence[str] = ()) -> Parser:
    """The parser of this command."""
    parser = Parser(
        "import-official",
        "Turn a released state dict of PatchGuard or COBRA into a checkpoint with equal outputs.",
        epilog=_EPILOG,
        usage="robustad import-official FILE OUT [--data NAME | --normal DIR] [options]",
    )
    parser.add_argument("file", type=str, help="the released .pth; nothing but tensors is read from it")
    parser.add_argument("out", type=str, help="folder for the checkpoint")
    parser.add_argument("--image-size", type=int, default=None, help="input side, pixels; default: read from the file")
    add_data_flags(parser)
    return parser


def run(arguments: Any) -> int:
    """Run it."""
    from robustad.workflows.import_official import import_official

    data = data_config(arguments)
    imported = import_official(arguments.file, arguments.out, image_size=arguments.image_size, data=data)
    say(f"checkpoint: {imported.checkpoint}")
    if imported.lacking:
        note(f"{imported.checkpoint} {imported.lacking}")
    return 0
