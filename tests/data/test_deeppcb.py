"""DeepPCB: tiles, boxes and board groups."""

import os
from pathlib import Path

import numpy as np
import pytest

from robustad.data import ImageDataset, load_samples
from robustad.data.deeppcb import read_boxes
from robustad.errors import ImageError, LayoutError

SHARED = Path(os.environ.get("ROBUSTAD_SHARED", Path(__file__).parents[2].parent / "shared"))


@pytest.fixture
def root(tmp_path, picture):
    """One pair per group; the box of the training board touches the corner tile only, of the others two tiles."""
    for group, boxes in (
        ("00041", "0 0 10 20 1\n"),
        ("12000", "200 100 210 110 3\n"),
        ("12100", "100,300,120,310,6\n"),
    ):
        folder = tmp_path / "PCBData" / f"group{group}"
        for kind in ("temp", "test"):
            picture(folder / group / f"{group}000_{kind}.jpg", 128, size=(640, 640))
        (folder / f"{group}_not").mkdir()
        (folder / f"{group}_not" / f"{group}000.txt").write_text(boxes)
    return tmp_path


def test_tiles_and_groups(root):
    split = load_samples("deeppcb", root)
    assert len(split.train) == 9 + 8  # all template tiles and the defect-free test tiles of the training board
    assert {s.group for s in split.train} == {"group00041"}
    assert sum("_temp" in s.name for s in split.train) == 9
    assert all("_test" in s.name for s in split.test)
    defects = {s.name.split("/")[-1]: s.boxes for s in split.test if s.label}
    assert defects == {
        # x 200..210 lies in the tiles at 0 (0..256) and 192 (192..448); y 100..110 in the one at 0 only
        "12000000_test.jpg#0,0": ((200, 100, 210, 110),),
        "12000000_test.jpg#192,0": ((200, 100, 210, 110),),
        "12100000_test.jpg#0,192": ((100, 300, 120, 310),),
    }
    assert sum(not s.label for s in split.test) == 7 + 8
    assert len({s.name for s in split.train + split.test}) == len(split.train + split.test)
    assert {s.group for s in load_samples("deeppcb", root, part="dev").test} == {"group12000"}
    assert {s.group for s in load_samples("deeppcb", root, part="final").test} == {"group12100"}
    assert load_samples("deeppcb", root / "PCBData") == split


def test_known_boards_add_templates_only(root):
    new, known = (load_samples("deeppcb", root, category=name) for name in ("new-boards", "known-boards"))
    assert known.test == new.test
    added = [s for s in known.train if s not in new.train]
    assert len(added) == 2 * 9
    assert all("_temp" in s.name for s in added)
    with pytest.raises(ValueError, match="known-boards, new-boards"):
        load_samples("deeppcb", root, category="old")


def test_boxes_become_masks_of_the_tile(root):
    split = load_samples("deeppcb", root)
    item = ImageDataset([s for s in split.test if s.name.endswith("12000000_test.jpg#192,0")], 256)[0]
    expected = np.zeros((256, 256), bool)
    expected[100:110, 8:18] = True
    np.testing.assert_array_equal(item["mask"].numpy(), expected)
    assert item["has_mask"]
    assert item["image"].shape == (3, 256, 256)


@pytest.mark.parametrize("line", ["1 2 3", "a b c d e", "5 5 5 9 1", "-1 0 4 4 1"])
def test_bad_boxes(tmp_path, line):
    (tmp_path / "x.txt").write_text(f"0 0 4 4 1\n\n{line}\n")
    with pytest.raises(LayoutError, match=r"x\.txt, line 3"):
        read_boxes(tmp_path / "x.txt")


def test_missing_parts(root, tmp_path_factory, picture):
    with pytest.raises(LayoutError, match="PCBData"):
        load_samples("deeppcb", tmp_path_factory.mktemp("empty"))
    picture(root / "PCBData/group12000/12000/12000000_test.jpg", 1, size=(300, 300))
    with pytest.raises(ImageError, match="smaller than its tile"):
        list(ImageDataset(load_samples("deeppcb", root, part="dev").test, 16))
    (root / "PCBData/group00041/00041/00041000_temp.jpg").unlink()
    with pytest.raises(LayoutError, match=r"00041000_temp\.jpg does not exist"):
        load_samples("deeppcb", root)
    (root / "PCBData/group00041/00041_not/00041000.txt").unlink()
    with pytest.raises(LayoutError, match="does not exist"):
        load_samples("deeppcb", root)


@pytest.mark.skipif(not (SHARED / "data" / "deeppcb").is_dir(), reason="DeepPCB is not on this machine")
def test_real_boards():
    split = load_samples("deeppcb", SHARED / "data" / "deeppcb")
    assert len(split.train) == 221 * 9 + 452
    assert (sum(not s.label for s in split.test), sum(s.label for s in split.test)) == (516, 1806)
    assert not {s.group for s in split.train} & {s.group for s in split.test}
