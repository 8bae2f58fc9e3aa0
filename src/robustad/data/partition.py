"""Which images are for training, which for choosing (``dev``) and which for the published figures (``final``).

Halves are derived from stable relative names or groups by a hash, or read from a committed file in ``splits/``
(written by ``tools/make_splits.py``); they depend on no seed and no machine.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cache
from importlib import resources
from typing import Any, Literal

from robustad._checks import check_choice, check_fraction
from robustad._random import derive_seed
from robustad.data.samples import Sample, Split
from robustad.errors import LayoutError

Part = Literal["all", "dev", "final"]
PARTS = ("all", "dev", "final")
_HALF_SALT = 0


def hold_out(normals: Sequence[Sample], seed: int, *, fraction: float = 0.2) -> Split:
    """Split normal samples into training and test by seed, whole groups only.

    Groups are ranked by a hash of (seed, group), so that adding or removing files moves as few others as possible.

    Args:
        normals: Normal samples of one category.
        seed: Another seed holds out other groups.
        fraction: Share of the samples for the test, in [0, 1]; at least one sample stays in training, and at least
            one is held out if the fraction is above zero and there are two groups.

    Returns:
        Both lists in the order of ``normals``.
    """
    check_fraction("fraction", fraction)
    sizes: dict[str, int] = {}
    for sample in normals:
        sizes[sample.group] = sizes.get(sample.group, 0) + 1
    wanted = max(1, round(fraction * len(normals))) if fraction > 0 else 0
    held, count = set[str](), 0
    for group in sorted(sizes, key=lambda group: (derive_seed(seed, "hold-out", group), group))[: len(sizes) - 1]:
        if count >= wanted:
            break
        held.add(group)
        count += sizes[group]
    return Split([s for s in normals if s.group not in held], [s for s in normals if s.group in held], set_aside=True)


def half(group: str) -> str:
    """``dev`` or ``final``, by a hash of the group's (or file's) name."""
    return "dev" if derive_seed(_HALF_SALT, "half", group) % 2 == 0 else "final"


def choose_part(samples: Sequence[Sample], part: str, *, data: str) -> list[Sample]:
    """Test samples of one part.

    Args:
        samples: The whole test set.
        part: ``all``, ``dev`` or ``final``.
        data: Dataset name: where a file is committed for it, that file decides; else the hash of the group.

    Returns:
        The samples of the part, in their order.

    Raises:
        LayoutError: If the part is empty, or a sample is not listed in the committed file.
    """
    check_choice("part", part, PARTS)
    if part == "all":
        return list(samples)
    chosen = [sample for sample in samples if _part_of(sample, data) == part]
    if not chosen and samples:
        raise LayoutError(
            f"none of the {len(samples)} test images falls into the part {part!r}; use part 'all' for so small a set"
        )
    return chosen


def _part_of(sample: Sample, data: str) -> str:
    if data == "elpv" and sample.group == sample.name:
        return _named_part(sample.name)
    if data in ("elpv", "mtd", "deeppcb"):
        return group_part(data, sample.group)
    return half(sample.group)


def _named_part(name: str) -> str:
    part = _name_table().get(name)
    if part is None:
        raise LayoutError(f"{name} is not in the committed split of elpv; use the files of the elpv-dataset package")
    return part


@cache
def _name_table() -> dict[str, str]:
    parts = committed("elpv")["parts"]
    return {name: part for part, names in parts.items() for name in names}


def group_part(data: str, group: str) -> str:
    """``train``, ``dev`` or ``final`` of a group of a dataset with committed groups; unlisted groups train."""
    return str(committed(data)["groups"].get(group, "train"))


def numbered_group(data: str, sample: Sample, number: int) -> str:
    """The group whose committed range of running numbers holds a file's.

    Raises:
        LayoutError: If no range does.
    """
    for group, (first, last) in committed(data)["ranges"].items():
        if first <= number <= last:
            return str(group)
    raise LayoutError(f"{sample.name} is not in the committed split of {data}; use the original dataset")


@cache
def committed(data: str) -> dict[str, Any]:
    """The committed split file of a dataset."""
    text = resources.files("robustad.data").joinpath("splits", f"{data}.json").read_text(encoding="utf-8")
    content: dict[str, Any] = json.loads(text)
    return content
