"""``robustad import-official``: the authors' weights as a checkpoint."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from robustad.cli.output import say
from robustad.cli.parsing import Parser


def build(words: Sequence[str] = ()) -> Parser:
    """The parser of this command."""
    parser = Parser("import-official", "Turn a released PatchGuard state dict into a checkpoint with equal scores.")
    parser.add_argument("file", type=str, help="the released .pth; nothing but tensors is read from it")
    parser.add_argument("out", type=str, help="folder for the checkpoint")
    parser.add_argument("--image-size", type=int, default=None, help="input side, pixels; default: read from the file")
    return parser


def run(arguments: Any) -> int:
    """Run it."""
    from robustad.workflows.import_official import import_official

    say(f"checkpoint: {import_official(arguments.file, arguments.out, image_size=arguments.image_size)}")
    return 0
