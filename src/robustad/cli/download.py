"""``robustad download``: published datasets, foreground masks and weights."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from robustad.cli.faults import UsageError
from robustad.cli.output import say, table
from robustad.cli.parsing import Parser
from robustad.errors import DownloadError


def build(words: Sequence[str] = ()) -> Parser:
    """The parser of this command."""
    parser = Parser("download", "Fetch a dataset, or `weights`, from its publishers; an interrupted one goes on.")
    parser.add_argument("what", type=str, nargs="?", default=None, help="a dataset, or weights")
    parser.add_argument("--list", action="store_true", help="say what there is")
    parser.add_argument("--root", type=str, default=None, help="the dataset's folder; default: where training looks")
    parser.add_argument("--no-masks", action="store_true", help="leave the foreground masks out")
    parser.add_argument("--dataset", type=str, default=None, help="of the weights")
    parser.add_argument("--category", type=str, default=None, help="of the weights; default: all")
    parser.add_argument("--target", type=str, default=None, help="folder for the weights; default: this one")
    return parser


def run(arguments: Any) -> int:
    """Run it."""
    from robustad.workflows import download

    _check_used(arguments)
    if arguments.list:
        rows = [(o.name, o.images, o.masks, str(o.weights or "-"), o.page) for o in download.offers()]
        table(["dataset", "images", "masks", "weights", "page"], rows)
    elif arguments.what is None:
        raise UsageError("name a dataset, or weights; --list says what there is")
    elif arguments.what == "weights":
        if arguments.dataset is None:
            raise UsageError("weights need --dataset, and --category for one of them")
        say(f"weights: {download.weights(arguments.dataset, arguments.category, arguments.target or '.')}")
    else:
        try:
            say(f"{arguments.what}: {download.download(arguments.what, arguments.root, masks=not arguments.no_masks)}")
        except DownloadError:
            if steps := download.steps_by_hand(arguments.what):
                say(steps)
            raise
    return 0


def _check_used(arguments: Any) -> None:
    """Options of weights for a dataset, and the other way round, would be ignored."""
    weights = arguments.what == "weights"
    others = ("root", "no_masks") if weights else ("dataset", "category", "target")
    for name in others:
        if arguments.what is not None and arguments[name]:
            flag, what = f"--{name.replace('_', '-')}", "a dataset" if weights else "weights"
            raise UsageError(f"{flag} is for {what}, not for {arguments.what}; leave it out")


def resume_hint(arguments: Any) -> str:
    """What to do after Ctrl-C."""
    return "run the same command again to go on"
