"""Splits: stable, whole groups, no leak, and the committed files as the tool makes them."""

import importlib
import os
import sys
from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from robustad.data import LAYOUTS, load_samples, read_layout
from robustad.data.partition import choose_part, committed, group_part, half, hold_out
from robustad.data.samples import Sample
from robustad.data.tiles import split_tiles, tile_groups, tile_number
from robustad.errors import LayoutError

SHARED = Path(os.environ.get("ROBUSTAD_SHARED", Path(__file__).parents[2].parent / "shared"))
needs_tiles = pytest.mark.skipif(
    not (SHARED / "data" / "magnetic_tile").is_dir(), reason="the magnetic tiles are not on this machine"
)


def make_sample(group: str, index: int = 0, *, label: bool = False) -> Sample:
    name = f"{group}-{index}.png"
    return Sample(Path("/nowhere") / name, label, None, None, group, name)


GROUPS = st.dictionaries(st.text("abc123", min_size=1, max_size=4), st.integers(1, 5), min_size=1, max_size=30)


@given(groups=GROUPS, seed=st.integers(0, 99), fraction=st.floats(0, 1))
def test_hold_out_keeps_groups_whole_and_something_to_train_on(groups, seed, fraction):
    samples = [make_sample(group, index) for group, size in groups.items() for index in range(size)]
    split = hold_out(samples, seed, fraction=fraction)
    assert sorted(split.train + split.test) == sorted(samples)
    assert not {s.group for s in split.train} & {s.group for s in split.test}
    assert split.train
    assert bool(split.test) == (fraction > 0 and len(groups) > 1)
    largest = max(groups.values())
    if len(groups) > 1:
        assert len(split.test) <= max(1, round(fraction * len(samples))) + largest - 1
    assert hold_out(samples[::-1], seed, fraction=fraction).test == split.test[::-1]


def test_hold_out_depends_on_the_seed_and_takes_a_fifth():
    samples = [make_sample(f"{index}") for index in range(100)]
    held = [{s.name for s in hold_out(samples, seed).test} for seed in range(3)]
    assert [len(names) for names in held] == [20, 20, 20]
    assert held[0] != held[1] != held[2]


FROZEN_HALVES = ["dev", "final", "final", "final", "dev", "dev", "dev", "final"]


def test_halves_are_the_same_on_every_machine():
    """Frozen values: they must never change, published figures depend on them."""
    names = [f"bottle/test/good/{index:03d}.png" for index in range(8)]
    assert [half(name) for name in names] == FROZEN_HALVES


@given(st.lists(st.tuples(st.text("abc", max_size=3), st.booleans()), max_size=40))
def test_parts_are_disjoint_and_complete(rows):
    samples = [make_sample(group, index, label=label) for index, (group, label) in enumerate(rows)]
    parts = []
    for part in ("dev", "final"):
        try:
            parts.append(choose_part(samples, part, data="mvtec"))
        except LayoutError:  # all groups fell into the other half
            parts.append([])
    assert sorted(parts[0] + parts[1]) == sorted(samples)
    assert not {s.group for s in parts[0]} & {s.group for s in parts[1]}
    assert choose_part(samples, "all", data="mvtec") == samples


def test_unknown_part_and_empty_part():
    with pytest.raises(ValueError, match="`part` must be one of all, dev, final"):
        choose_part([], "validation", data="mvtec")
    one = [make_sample("a")]
    other = "final" if half("a") == "dev" else "dev"
    with pytest.raises(LayoutError, match="use part 'all'"):
        choose_part(one, other, data="mvtec")


def test_tile_numbers_and_gaps():
    assert tile_number("MT_Fray/Imgs/exp6_num_77744.jpg") == 77744
    with pytest.raises(LayoutError, match="num_"):
        tile_number("MT_Fray/Imgs/exp6.jpg")
    assert tile_groups([500, 100, 200, 301, 201]) == [[100, 200, 201, 301], [500]]
    assert tile_groups([]) == []


@given(st.lists(st.integers(0, 5000), max_size=60))
def test_tile_groups_cut_exactly_at_gaps(numbers):
    groups = tile_groups(numbers)
    assert [number for group in groups for number in group] == sorted(numbers)
    assert all(b - a <= 100 for group in groups for a, b in pairwise(group))
    assert all(right[0] - left[-1] > 100 for left, right in pairwise(groups))


def test_committed_tiles_are_complete():
    split = committed("mtd")
    assert set(split["ranges"]) == set(split["groups"])
    assert Counter(split["groups"].values()) == {"train": 117, "dev": 53, "final": 54}
    ends = sorted(split["ranges"].values())
    assert all(right[0] - left[1] > 100 for left, right in pairwise(ends))
    assert group_part("deeppcb", "group-of-tomorrow") == "train"


def test_tiles_refuse_files_that_are_not_the_datasets(tmp_path, picture):
    ranges, parts = committed("mtd")["ranges"], committed("mtd")["groups"]
    number = {part: ranges[next(g for g in parts if parts[g] == part)][0] for part in ("train", "dev", "final")}
    picture(tmp_path / f"MT_Free/Imgs/exp1_num_{number['train']}.jpg")
    picture(tmp_path / f"MT_Free/Imgs/exp1_num_{number['dev']}.jpg")
    picture(tmp_path / f"MT_Crack/Imgs/exp1_num_{number['final']}.jpg")
    picture(tmp_path / f"MT_Crack/Imgs/exp1_num_{number['final']}.png", 255)
    split = load_samples("mtd", tmp_path)
    assert [(s.label, s.group) for s in split.train] == [(False, f"tile-{number['train']}")]
    assert [(s.label, s.group) for s in split.test] == [
        (False, f"tile-{number['dev']}"),
        (True, f"tile-{number['final']}"),
    ]
    assert load_samples("mtd", tmp_path, part="dev").test == split.test[:1]
    assert load_samples("mtd", tmp_path, part="final").test == split.test[1:]
    bad = picture(tmp_path / f"MT_Crack/Imgs/exp2_num_{number['train']}.jpg")
    with pytest.raises(LayoutError, match="is anomalous but its tile is for training"):
        load_samples("mtd", tmp_path)
    bad.unlink()
    picture(tmp_path / "MT_Free/Imgs/exp1_num_999999999.jpg")
    with pytest.raises(LayoutError, match="not in the committed split"):
        load_samples("mtd", tmp_path)


@needs_tiles
def test_real_tiles_never_leak():
    root = SHARED / "data" / "magnetic_tile"
    pool = read_layout(LAYOUTS["mtd"], root)
    split = split_tiles(pool)
    assert (len(pool.train), len(pool.test)) == (952, 392)
    defective = {s.group for s in split.test if s.label}
    assert not {s.group for s in split.train} & {s.group for s in split.test}
    assert len({s.group for s in split.train + split.test}) == 224
    assert len(defective) == 77
    assert len(split.train) == 704
    parts = {part: load_samples("mtd", root, part=part) for part in ("all", "dev", "final")}
    assert [Counter(s.label for s in parts[part].test) for part in ("dev", "final")] == [
        {False: 124, True: 199},
        {False: 124, True: 193},
    ]
    assert not {s.group for s in parts["dev"].test} & {s.group for s in parts["final"].test}
    assert sorted(parts["dev"].test + parts["final"].test) == sorted(parts["all"].test)
    assert parts["dev"].train == parts["final"].train == split.train


def load_tool():
    folder = str(Path(__file__).parents[2] / "tools")
    sys.path.insert(0, folder)
    try:
        return importlib.import_module("make_splits")
    finally:
        sys.path.remove(folder)


def test_the_tool_makes_the_committed_elpv_file():
    pytest.importorskip("elpv_dataset")
    made = load_tool().make_elpv()
    assert all(made[key] == committed("elpv")[key] for key in ("parts", "ranges", "groups"))


@needs_tiles
def test_the_tool_makes_the_committed_tile_file():
    made = load_tool().make_mtd(SHARED / "data" / "magnetic_tile")
    assert made["ranges"] == committed("mtd")["ranges"]
    assert made["groups"] == committed("mtd")["groups"]
