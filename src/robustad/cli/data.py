"""``robustad data check``: unreadable and inconsistent files of a dataset."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from robustad.cli.faults import UsageError, usage
from robustad.cli.output import note, say
from robustad.cli.parsing import Parser


def build(words: Sequence[str] = ()) -> Parser:
    """The parser of this command."""
    parser = Parser("data", "Read every file of a dataset and list what cannot be used; exit code 1 if there is any.")
    parser.add_argument("action", type=str, choices=["check"], help="what to do")
    parser.add_argument("folder", type=str, nargs="?", default=None, help="the dataset's folder")
    parser.add_argument("--data", type=str, default="folder", help="name of the dataset; folder = your own images")
    parser.add_argument("--root", type=str, default=None, help="the same as FOLDER")
    parser.add_argument("--category", type=str, default=None, help="only this category")
    return parser


def run(arguments: Any) -> int:
    """Run it."""
    from robustad._checks import check_choice
    from robustad.data import CATALOG
    from robustad.workflows.check import check

    if arguments.folder and arguments.root:
        raise UsageError("FOLDER and --root are the same; give one of them")
    with usage():
        check_choice("data", arguments.data, CATALOG)
    problems = check(arguments.folder or arguments.root, data=arguments.data, category=arguments.category)
    for problem in problems:
        say(problem.text)
    if problems:
        note(f"{len(problems):,} problems")
        return 1
    say("no problems")
    return 0
