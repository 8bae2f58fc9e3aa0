"""The commands: one row each. Nothing is imported until a command is called."""

from __future__ import annotations

from typing import NamedTuple


class Verb(NamedTuple):
    """One command.

    Attributes:
        module: Where it is: a module with ``build(words) -> Parser``, ``run(arguments) -> int`` and, where it applies,
            ``resume_hint(arguments) -> str``.
        summary: One line for the list of commands.
    """

    module: str
    summary: str


VERBS: dict[str, Verb] = {
    "demo": Verb("robustad.cli.demo", "train, attack and report on real images that come along, in a few minutes"),
    "fit": Verb("robustad.cli.fit", "train a detector on normal images (alias: train)"),
    "pretrain": Verb("robustad.cli.pretrain", "make weights to start from, out of procedural images alone"),
    "test": Verb("robustad.cli.test", "measure a detector, clean and under attack, and write a report"),
    "benchmark": Verb("robustad.cli.benchmark", "train and test many detectors on many data sets, and rank them"),
    "predict": Verb("robustad.cli.predict", "score files and folders: a table, and overlays"),
    "calibrate": Verb("robustad.cli.calibrate", "find a threshold with a known rate of false alarms: predict decides"),
    "visualize": Verb("robustad.cli.visualize", "draw image, map, attacked twin and its map for chosen images"),
    "masks": Verb("robustad.cli.masks", "find foreground masks for training images"),
    "data": Verb("robustad.cli.data", "check a dataset for unreadable and inconsistent files"),
    "download": Verb("robustad.cli.download", "fetch published datasets, masks and weights"),
    "import-official": Verb("robustad.cli.import_official", "turn the authors' released weights into a checkpoint"),
    "info": Verb("robustad.cli.info", "say what a checkpoint is"),
}
ALIASES = {"train": "fit"}


def overview() -> str:
    """What ``robustad --help`` prints."""
    width = max(map(len, VERBS))
    lines = [f"  {name:<{width}}  {verb.summary}" for name, verb in VERBS.items()]
    return "\n".join(
        [
            "usage: robustad COMMAND ... [--debug]",
            "",
            "Find and localize anomalies in images, and keep working under attack.",
            "",
            "commands:",
            *lines,
            "",
            "robustad COMMAND --help explains a command; robustad --version prints the version;",
            "--debug after any command shows where an error came from.",
            "",
            "exit codes: 0 done, 1 error, 2 wrong usage, 3 done but some files could not be used, 130 interrupted",
        ]
    )
