"""Collections sorted by class: one class is normal against the others, or all of them are.

Pictures that come in arrays are written as PNG files once, into a tree ``.../CLASS/INDEX.png``; from there on they are
files like those of any other dataset.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from robustad._progress import progress
from robustad.data.roots import data_home
from robustad.data.samples import Sample, Split

if TYPE_CHECKING:
    from PIL import Image

ALL = "all"
"""The category that makes every class normal."""
DIGITS = tuple("0123456789")


def class_samples(root: Path, names: Sequence[str], category: str) -> list[Sample]:
    """Samples of a tree, with their class as `Sample.kind`.

    Args:
        root: Folder of the tree.
        names: Files below it, ``.../CLASS/FILE``.
        category: The normal class, or `ALL`.

    Returns:
        One sample per name, normals first, then by name.
    """
    samples = []
    for name in names:
        kind = name.split("/")[-2]
        samples.append(Sample(root / name, category not in (ALL, kind), None, None, name, name, kind=kind))
    return sorted(samples, key=lambda sample: (sample.label, sample.name))


def write_pictures(root: Path, names: Sequence[str], picture: Callable[[int], Image.Image]) -> None:
    """Write those pictures that are not there yet.

    Args:
        root: Folder to write below.
        names: Files, relative to it.
        picture: From a position in ``names`` to the picture.
    """
    missing = [index for index, name in enumerate(names) if not (root / name).is_file()]
    if not missing:
        return
    root.mkdir(parents=True, exist_ok=True)
    for folder in {(root / names[index]).parent for index in missing}:
        folder.mkdir(parents=True, exist_ok=True)
    # not `atomic_path`: flushing thousands of tiny files to disk one by one takes minutes
    with TemporaryDirectory(dir=root, prefix=".part-") as temporary:
        for index in progress(missing, f"writing pictures to {root}"):
            part = Path(temporary) / f"{index}.png"
            picture(index).save(part)
            part.replace(root / names[index])


def read_digits(root: Path | None, category: str) -> Split:
    """scikit-learn's handwritten digits, one class normal, the nine others anomalous.

    The 1,797 pictures of 8 x 8 pixels are written as PNG files once, to ``root`` or the user's data folder.

    Args:
        root: Folder for the files; None = ``digits`` in the data folder.
        category: The normal digit, ``"0"`` to ``"9"``, or `ALL`.

    Returns:
        All normal pictures in ``train``, all others in ``test``.
    """
    import numpy as np
    from PIL import Image
    from sklearn.datasets import load_digits

    root = data_home() / "digits" if root is None else root
    data = load_digits()
    grey = np.rint(data.images * (255 / 16)).astype(np.uint8)  # grey levels 0..16 -> 0..255
    names = [f"{target}/{index:04d}.png" for index, target in enumerate(data.target)]
    write_pictures(root, names, lambda index: Image.fromarray(grey[index]))
    samples = class_samples(root, names, category)
    return Split([s for s in samples if not s.label], [s for s in samples if s.label])
