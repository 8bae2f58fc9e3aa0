"""Magnetic tiles: about six exposures of one tile carry neighbouring running numbers, and are never torn apart."""

from __future__ import annotations

import re
from collections.abc import Sequence

from robustad.data.partition import group_part, numbered_group
from robustad.data.samples import Sample, Split
from robustad.errors import LayoutError


def tile_number(name: str) -> int:
    """The running number in a magnetic tile's file name, e.g. 77744 of ``exp6_num_77744.jpg``.

    Raises:
        LayoutError: If the name has none.
    """
    match = re.search(r"num_(\d+)", name)
    if match is None:
        raise LayoutError(f"{name} has no `num_` number, so its tile is unknown; use the dataset's original file names")
    return int(match.group(1))


def tile_groups(numbers: Sequence[int], *, gap: int = 100) -> list[list[int]]:
    """Cut sorted running numbers wherever two neighbours lie more than ``gap`` apart.

    Args:
        numbers: Running numbers of the images of all classes, in any order.
        gap: Largest distance of neighbours in one group.

    Returns:
        Groups in ascending order, each sorted.
    """
    groups: list[list[int]] = []
    for number in sorted(numbers):
        if groups and number - groups[-1][-1] <= gap:
            groups[-1].append(number)
        else:
            groups.append([number])
    return groups


def split_tiles(pool: Split) -> Split:
    """Split magnetic tiles as the committed file says: each tile wholly in training, or wholly in the test.

    Args:
        pool: All normals in ``train``, all defects in ``test``.

    Returns:
        Training normals of the tiles marked ``train``; the rest, normal and anomalous.

    Raises:
        LayoutError: If a file's tile is not listed, or a training tile has a defect.
    """
    normals = [_with_tile(sample) for sample in pool.train]
    defects = [_with_tile(sample) for sample in pool.test]
    for sample in defects:
        if group_part("mtd", sample.group) == "train":
            raise LayoutError(f"{sample.name} is anomalous but its tile is for training; use the original dataset")
    train = [sample for sample in normals if group_part("mtd", sample.group) == "train"]
    test = [sample for sample in normals if group_part("mtd", sample.group) != "train"]
    return Split(train, test + defects)


def _with_tile(sample: Sample) -> Sample:
    return sample._replace(group=numbered_group("mtd", sample, tile_number(sample.name)))
