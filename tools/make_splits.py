"""Write the committed splits of elpv, mtd and deeppcb to src/robustad/data/splits (deterministic).

Run: python tools/make_splits.py --mtd DIR --deeppcb DIR   (elpv comes from its installed package)
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from elpv_modules import module_ranges

from robustad._random import derive_seed
from robustad.data.layouts import LAYOUTS, read_layout
from robustad.data.tables import ELPV_KINDS, read_elpv
from robustad.data.tiles import tile_groups, tile_number

SEED = 2025
TARGET = Path(__file__).parents[1] / "src" / "robustad" / "data" / "splits"
TRAIN_SHARE = 0.8
MODULES_SHARE = 0.6


def shuffled(names: list[str], *salt: str) -> list[str]:
    """Names in the order of their hashes: the same everywhere, whatever the input order."""
    return sorted(names, key=lambda name: (derive_seed(SEED, *salt, name), name))


def balanced(groups: Mapping[str, Counter[str]]) -> dict[str, str]:
    """Halve groups so that each class is even: large groups first, each to the half that has less of its main class."""
    totals: dict[str, Counter[str]] = {"dev": Counter(), "final": Counter()}
    result = {}
    order = {name: rank for rank, name in enumerate(shuffled(list(groups), "halves"))}
    for name in sorted(groups, key=lambda name: (-groups[name].total(), order[name])):
        main = min(groups[name], key=lambda kind: (-groups[name][kind], kind))
        first = "dev" if order[name] % 2 else "final"
        other = "final" if first == "dev" else "dev"
        part = first if totals[first][main] <= totals[other][main] else other
        totals[part].update(groups[name])
        result[name] = part
    return result


def make_elpv() -> dict[str, Any]:
    """Halve every (kind, label) by file; apart from that, divide the modules of each kind."""
    parts: dict[str, list[str]] = {"dev": [], "final": []}
    for kind in ELPV_KINDS:
        for samples in read_elpv(None, kind)[:2]:
            names = shuffled([sample.name for sample in samples], "elpv")
            middle = len(names) // 2
            parts["dev"] += names[:middle]
            parts["final"] += names[middle:]
    ranges, groups = module_ranges(), dict[str, str]()
    for kind in ELPV_KINDS:
        groups |= _module_parts(kind, ranges)
    return {
        "parts": {part: sorted(names) for part, names in parts.items()},
        "ranges": {name: list(ends) for name, ends in ranges.items()},
        "groups": groups,
    }


def _module_parts(kind: str, ranges: Mapping[str, tuple[int, int]]) -> dict[str, str]:
    """Modules with the fewest defects train, until they hold `MODULES_SHARE` of the normal cells; others are halved."""
    pool = read_elpv(None, kind)
    counts = {name: Counter[str]() for name in ranges if name.startswith(kind)}
    for sample in pool.train + pool.test:
        number = int(sample.path.stem.removeprefix("cell"))
        name = next(name for name in counts if ranges[name][0] <= number <= ranges[name][1])
        counts[name]["defect" if sample.label else "normal"] += 1
    wanted, train = MODULES_SHARE * len(pool.train), list[str]()
    for name in sorted(counts, key=lambda name: (counts[name]["defect"], name)):
        if sum(counts[chosen]["normal"] for chosen in train) >= wanted:
            break
        train.append(name)
    parts = dict.fromkeys(train, "train") | balanced({n: c for n, c in counts.items() if n not in train})
    return {name: parts[name] for name in counts}


def make_mtd(root: Path) -> dict[str, Any]:
    """Tiles without any defect train until 80 % of the pictures of such tiles are used; all others are halved."""
    pool = read_layout(LAYOUTS["mtd"], root)
    kinds = {tile_number(s.name): s.name.split("/")[0] for s in pool.train + pool.test}
    if len(kinds) != len(pool.train) + len(pool.test):
        raise SystemExit("two pictures share one number")
    groups = {f"tile-{numbers[0]}": numbers for numbers in tile_groups(list(kinds))}
    counts = {name: Counter(kinds[number] for number in numbers) for name, numbers in groups.items()}
    free = [name for name in groups if set(counts[name]) == {"MT_Free"}]
    wanted = TRAIN_SHARE * sum(counts[name].total() for name in free)
    train: list[str] = []
    for name in shuffled(free, "mtd"):
        if sum(counts[chosen].total() for chosen in train) >= wanted:
            break
        train.append(name)
    parts = dict.fromkeys(train, "train") | balanced({n: c for n, c in counts.items() if n not in train})
    return {
        "ranges": {name: [numbers[0], numbers[-1]] for name, numbers in groups.items()},
        "groups": {name: parts[name] for name in groups},
    }


def make_deeppcb(root: Path) -> dict[str, Any]:
    """The largest board group trains; the others are halved by their number of pairs."""
    base = root / "PCBData" if (root / "PCBData").is_dir() else root
    counts = {
        path.name: Counter({"pair": len(list(path.glob("*/*_test.jpg")))}) for path in sorted(base.glob("group*"))
    }
    largest = max(counts, key=lambda name: (counts[name].total(), name))
    parts = {largest: "train"} | balanced({name: count for name, count in counts.items() if name != largest})
    return {"groups": dict(sorted(parts.items()))}


def write(name: str, content: dict[str, Any]) -> None:
    """One JSON file, one line for each table or list, so that it stays short and its changes readable."""
    head = {"data": name, "made_by": "tools/make_splits.py", "seed": SEED} | content
    lines = [f" {json.dumps(key)}: {_value(value)}" for key, value in head.items()]
    TARGET.mkdir(exist_ok=True)
    (TARGET / f"{name}.json").write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")


def _value(value: Any) -> str:
    if not isinstance(value, dict):
        return json.dumps(value)
    return "{\n" + ",\n".join(f"  {json.dumps(key)}: {json.dumps(item)}" for key, item in value.items()) + "\n }"


def main() -> None:
    """Write the files of the datasets that were given."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mtd", type=Path)
    parser.add_argument("--deeppcb", type=Path)
    given = parser.parse_args()
    write("elpv", make_elpv())
    if given.mtd:
        write("mtd", make_mtd(given.mtd))
    if given.deeppcb:
        write("deeppcb", make_deeppcb(given.deeppcb))


if __name__ == "__main__":
    main()
