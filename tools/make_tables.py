"""Fill the tables of README.md and docs/*.md, from ``results/*.json`` and from the code.

A table stands between ``<!-- table:NAME -->`` and ``<!-- /table -->``; nobody writes in there by hand.

Run: python tools/make_tables.py           fill them
     python tools/make_tables.py --check   exit 1 and say which file is out of date
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path

from code_tables import SOURCES
from result_tables import CLAIMS, VIEWS, comparisons, figures, recipe_changes, times_to_robustness

ROOT = Path(__file__).parents[1]
MARKER = re.compile(r"(<!-- table:([\w-]+) -->\n)(.*?)(<!-- /table -->)", re.DOTALL)
OPENING = re.compile(r"<!-- table:")


def sources(results: Path) -> dict[str, Callable[[], str]]:
    """What makes each table, by name."""
    made: dict[str, Callable[[], str]] = dict(SOURCES)
    made |= {name: partial(figures, view, results) for name, view in VIEWS.items()}
    made |= {name: partial(comparisons, *claim, results) for name, claim in CLAIMS.items()}
    made["time-to-robustness"] = partial(times_to_robustness, results)
    made["recipe-changes"] = partial(recipe_changes, results)
    return made


def fill(text: str, tables: dict[str, Callable[[], str]], where: str) -> str:
    """The text of a document with all its tables as they should be.

    Raises:
        SystemExit: If a table has no end, or nobody knows its name.
    """
    if len(OPENING.findall(text)) != len(MARKER.findall(text)):
        raise SystemExit(f"{where}: a table has no `<!-- /table -->`, or its name is not made of letters and dashes")

    def replace(match: re.Match[str]) -> str:
        name = match.group(2)
        if name not in tables:
            raise SystemExit(f"{where}: no table {name!r}; there are {', '.join(sorted(tables))}")
        return f"{match.group(1)}{tables[name]()}\n{match.group(4)}"

    return MARKER.sub(replace, text)


def outdated(root: Path = ROOT, *, write: bool = False) -> list[Path]:
    """The documents whose tables are not what they should be; ``write`` corrects them."""
    tables = sources(root / "results")
    found = []
    for path in [root / "README.md", *sorted((root / "docs").rglob("*.md"))]:
        before = path.read_text(encoding="utf-8")
        after = fill(before, tables, path.name)
        if after != before:
            found.append(path)
            if write:
                path.write_text(after, encoding="utf-8")
    return found


def main() -> None:
    """Fill or check."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="change nothing; exit 1 if a table is out of date")
    check = parser.parse_args().check
    found = outdated(write=not check)
    for path in found:
        print(f"{path.relative_to(ROOT)}: {'out of date, run python tools/make_tables.py' if check else 'filled'}")
    raise SystemExit(1 if check and found else 0)


if __name__ == "__main__":
    main()
