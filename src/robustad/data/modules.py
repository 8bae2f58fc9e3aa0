"""Solar modules: cells of one module carry neighbouring numbers, and look more alike than cells of two."""

from __future__ import annotations

import re

from robustad.data.partition import group_part, numbered_group
from robustad.data.samples import Sample, Split
from robustad.errors import LayoutError

_CELL = re.compile(r"cell(\d+)$")


def module_of(sample: Sample) -> str:
    """The module that a cell of `elpv` was cut from, e.g. ``mono-07``.

    The dataset does not name modules. They are inferred from its numbering (`tools/elpv_modules.py`), and committed.

    Raises:
        LayoutError: If the file's name is none of the dataset's.
    """
    match = _CELL.search(sample.path.stem)
    if match is None:
        raise LayoutError(f"{sample.name} has no cell number; use the files of the elpv-dataset package")
    return numbered_group("elpv", sample, int(match.group(1)))


def split_modules(pool: Split) -> Split:
    """Split cells so that no tested module is known to the training, as the committed file says.

    Args:
        pool: All normals in ``train``, all defects in ``test``.

    Returns:
        Normal cells of the modules marked ``train``, whose defects are left out; all cells of the other modules.

    Raises:
        LayoutError: If a file's module is not listed.
    """
    normals, defects = ([sample._replace(group=module_of(sample)) for sample in part] for part in pool[:2])
    known = [group_part("elpv", sample.group) == "train" for sample in normals]
    train = [sample for sample, is_known in zip(normals, known, strict=True) if is_known]
    unknown = [sample for sample, is_known in zip(normals, known, strict=True) if not is_known]
    return Split(train, unknown + [sample for sample in defects if group_part("elpv", sample.group) != "train"])
