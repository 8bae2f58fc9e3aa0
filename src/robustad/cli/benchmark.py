"""``robustad benchmark``: a matrix of detectors, data and seeds, ranked."""

from __future__ import annotations

import re
from argparse import ArgumentTypeError
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from robustad.cli.faults import FAILED, PARTIAL, UsageError
from robustad.cli.output import facts, note, say
from robustad.cli.parsing import Parser
from robustad.cli.values import read_by_name

_EPILOG = """\
A matrix looks like this:

  detectors:
    patchguard: {recipe: default}
    without attacks: {recipe: default, training: {epsilon: 0}}
    cobra: {recipe: cobra}
    mine: {checkpoint: runs/mine/checkpoint}
  data:
    - {data: elpv, category: mono}
    - {data: digits, category: ["3", "5"]}
  seeds: [0, 1]
  test: {part: final, attacks: [pgd, ensemble], epsilons: [2/255], max_images: 100}

Options below a detector are those of robustad fit, those below test of robustad test. Finished cells are not done
again; an interrupted one goes on where it was. Each cell has a folder with its detector and its report."""


def build(words: Sequence[str] = ()) -> Parser:
    """The parser of this command."""
    usage = "robustad benchmark MATRIX.yaml [--out DIR]"
    parser = Parser("benchmark", "Train and test many detectors, and rank them.", epilog=_EPILOG, usage=usage)
    parser.add_argument("matrix", type=str, help="YAML file")
    parser.add_argument("--out", type=str, default=None, help="folder of the results; default: runs/NAME of the file")
    return parser


def run(arguments: Any) -> int:
    """Run it."""
    from robustad.reporting import leaderboard_markdown
    from robustad.workflows.benchmark import Matrix, benchmark

    path = Path(arguments.matrix)
    try:
        matrix = Matrix.from_dict(_read(path))
    except ValueError as error:
        raise UsageError(f"{path}: {error}") from error
    out = Path(arguments.out or f"runs/{path.stem}")
    result = benchmark(matrix, out, command=f"robustad benchmark {path} --out {out}", on_cell=note)
    say(leaderboard_markdown(result.boards))
    facts({"leaderboard": result.page, **{f"not measured, {what}": why for what, why in result.failed.items()}})
    return 0 if not result.failed else PARTIAL if result.boards else FAILED


def resume_hint(arguments: Any) -> str:
    """What to do after Ctrl-C."""
    return "give the same command again to go on"


class _Loader(yaml.SafeLoader):
    """YAML 1.1 takes 1e-3 for text; people, and YAML 1.2, for a number."""


_Loader.add_implicit_resolver("tag:yaml.org,2002:float", re.compile(r"[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+"), None)


def _read(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise UsageError(f"{path} does not exist; it must be a YAML file, see below")
    try:
        values = read_by_name(yaml.load(path.read_text(encoding="utf-8"), _Loader))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} is not YAML: {' '.join(str(error).split())}") from error
    except ArgumentTypeError as error:
        raise UsageError(f"{path}: {error}") from error
    if not isinstance(values, dict):
        raise UsageError(f"{path} must hold `detectors`, `data`, `seeds` and `test`")
    return values
