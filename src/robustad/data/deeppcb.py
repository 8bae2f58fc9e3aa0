"""DeepPCB: pairs of a template and a tested board, with boxes around defects, cut into tiles.

Templates and test pictures carry different JPEG tables, which alone tells them apart. Test normals are therefore
defect-free tiles of *test* pictures, and training holds defect-free test tiles (of other boards) beside templates.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from robustad.data.partition import group_part
from robustad.data.samples import Box, Sample, Split
from robustad.errors import LayoutError

TILE = 256
OFFSETS = (0, 192, 384)
CATEGORIES = ("new-boards", "known-boards")


def read_deeppcb(root: Path, category: str) -> Split:
    """Read tiles of 256 pixels at offsets 0, 192 and 384 of the 640-pixel pictures.

    Board groups are whole: those marked ``train`` in the committed split give templates and defect-free test tiles for
    training, the others give the test set. A tile is anomalous if any box reaches into it.

    Args:
        root: Folder with ``PCBData``, or that folder itself.
        category: ``new-boards``: the tested boards are unknown to the detector. ``known-boards``: the templates of the
            tested boards are for training too, as on a line that has a golden sample.

    Returns:
        Training tiles; test tiles, normal ones first.

    Raises:
        LayoutError: If the folder, a partner of a pair or a readable box is missing.
    """
    base = root / "PCBData" if (root / "PCBData").is_dir() else root
    tests = sorted(base.glob("group*/*/*_test.jpg"))
    if not tests:
        raise LayoutError(f"no group*/*/*_test.jpg in {base}; check that this is DeepPCB's PCBData folder")
    train: list[Sample] = []
    good: list[Sample] = []
    defects: list[Sample] = []
    for test in tests:
        template = test.with_name(test.name.replace("_test.jpg", "_temp.jpg"))
        group = test.relative_to(base).parts[0]
        in_training = group_part("deeppcb", group) == "train"
        if in_training or category == "known-boards":
            _check_exists(template)
            train.extend(_tiles(template, base, group, boxes=()))
        for tile in _tiles(test, base, group, boxes=read_boxes(_box_file(test))):
            if not tile.label:
                (train if in_training else good).append(tile)
            elif not in_training:
                defects.append(tile)
    return Split(train, good + defects)


def read_boxes(path: Path) -> tuple[Box, ...]:
    """Boxes of one annotation file: lines of left, top, right, bottom, kind, separated by blanks or commas.

    Raises:
        LayoutError: If the file is missing or a line is not of that form.
    """
    _check_exists(path)
    boxes = []
    for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), start=1):
        cells = line.replace(",", " ").split()
        if not cells:
            continue
        if len(cells) != 5 or not all(cell.isdigit() for cell in cells):
            raise LayoutError(f"{path}, line {number}: expected left top right bottom kind; got {line!r}")
        left, top, right, bottom, _ = map(int, cells)
        if left >= right or top >= bottom:
            raise LayoutError(f"{path}, line {number}: the box is empty, got {line!r}")
        boxes.append((left, top, right, bottom))
    return tuple(boxes)


def _box_file(test: Path) -> Path:
    # group00041/00041/00041000_test.jpg -> group00041/00041_not/00041000.txt
    return test.parent.with_name(f"{test.parent.name}_not") / test.name.replace("_test.jpg", ".txt")


def _check_exists(path: Path) -> None:
    if not path.is_file():
        raise LayoutError(f"{path} does not exist; check that the dataset is complete")


def _tiles(path: Path, base: Path, group: str, *, boxes: tuple[Box, ...]) -> Iterator[Sample]:
    name = path.relative_to(base).as_posix()
    for top in OFFSETS:
        for left in OFFSETS:
            crop = (left, top, left + TILE, top + TILE)
            inside = tuple(box for box in boxes if _overlaps(box, crop))
            yield Sample(path, bool(inside), None, None, group, f"{name}#{left},{top}", crop, inside or None)


def _overlaps(box: Box, crop: Box) -> bool:
    return box[0] < crop[2] and crop[0] < box[2] and box[1] < crop[3] and crop[1] < box[3]
