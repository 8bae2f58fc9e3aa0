"""CIFAR, MNIST, Fashion-MNIST and SVHN: read and downloaded by torchvision, with the official split.

Below the dataset's root lie the files of torchvision, and beside them ``NAME-png``: the same pictures as PNG files,
``train/CLASS/INDEX.png`` and ``test/CLASS/INDEX.png``, and ``pictures.txt``, which lists them when all are written.
Several datasets may share one root.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from functools import partial
from http.client import HTTPException
from pathlib import Path
from typing import Any

from robustad.data.classes import DIGITS, class_samples, write_pictures
from robustad.data.samples import Split
from robustad.errors import DownloadError, LayoutError
from robustad.files import write_text

_PARTS = ("train", "test")
_LISTING = "pictures.txt"

# What torchvision's readers raise on files that are missing, cut off or changed.
_READER_ERRORS = (RuntimeError, ValueError, AssertionError, IndexError, EOFError)

# fmt: off
_CIFAR10 = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
_FASHION = ("t-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle_boot")
_SUPERCLASSES = {
    "aquatic_mammals": ("beaver", "dolphin", "otter", "seal", "whale"),
    "fish": ("aquarium_fish", "flatfish", "ray", "shark", "trout"),
    "flowers": ("orchid", "poppy", "rose", "sunflower", "tulip"),
    "food_containers": ("bottle", "bowl", "can", "cup", "plate"),
    "fruit_and_vegetables": ("apple", "mushroom", "orange", "pear", "sweet_pepper"),
    "household_electrical_devices": ("clock", "keyboard", "lamp", "telephone", "television"),
    "household_furniture": ("bed", "chair", "couch", "table", "wardrobe"),
    "insects": ("bee", "beetle", "butterfly", "caterpillar", "cockroach"),
    "large_carnivores": ("bear", "leopard", "lion", "tiger", "wolf"),
    "large_man-made_outdoor_things": ("bridge", "castle", "house", "road", "skyscraper"),
    "large_natural_outdoor_scenes": ("cloud", "forest", "mountain", "plain", "sea"),
    "large_omnivores_and_herbivores": ("camel", "cattle", "chimpanzee", "elephant", "kangaroo"),
    "medium_mammals": ("fox", "porcupine", "possum", "raccoon", "skunk"),
    "non-insect_invertebrates": ("crab", "lobster", "snail", "spider", "worm"),
    "people": ("baby", "boy", "girl", "man", "woman"),
    "reptiles": ("crocodile", "dinosaur", "lizard", "snake", "turtle"),
    "small_mammals": ("hamster", "mouse", "rabbit", "shrew", "squirrel"),
    "trees": ("maple_tree", "oak_tree", "palm_tree", "pine_tree", "willow_tree"),
    "vehicles_1": ("bicycle", "bus", "motorcycle", "pickup_truck", "train"),
    "vehicles_2": ("lawn_mower", "rocket", "streetcar", "tank", "tractor"),
}
# fmt: on
# the 100 classes are numbered in the order of their names
_SUPERCLASS_OF = sorted((fine, coarse) for coarse, several in _SUPERCLASSES.items() for fine in several)


@dataclass(frozen=True, kw_only=True)
class VisionSet:
    """A dataset of torchvision.

    Attributes:
        reader: Its class in ``torchvision.datasets``.
        categories: Its classes, in the order of their labels unless ``labels`` says more.
        files: What lies below the root, for messages.
        labels: The category of each label, where several labels make a category.
    """

    reader: str
    categories: tuple[str, ...]
    files: str
    labels: tuple[str, ...] = ()


VISION: dict[str, VisionSet] = {
    "cifar10": VisionSet(reader="CIFAR10", categories=_CIFAR10, files="cifar-10-batches-py"),
    "cifar100": VisionSet(
        reader="CIFAR100",
        categories=tuple(_SUPERCLASSES),
        files="cifar-100-python",
        labels=tuple(coarse for _, coarse in _SUPERCLASS_OF),
    ),
    "mnist": VisionSet(reader="MNIST", categories=DIGITS, files="MNIST/raw"),
    "fashion-mnist": VisionSet(reader="FashionMNIST", categories=_FASHION, files="FashionMNIST/raw"),
    "svhn": VisionSet(reader="SVHN", categories=DIGITS, files="train_32x32.mat and test_32x32.mat"),
}


def read_vision(data: str, root: Path, category: str) -> Split:
    """One class of a dataset normal, all others anomalous; or all normal.

    Args:
        data: Name in `VISION`.
        root: Folder that torchvision's reader takes; the PNG files are written there, too.
        category: The normal class (CIFAR-100: superclass), or ``all``.

    Returns:
        The normal pictures of the official training set; the whole official test set, normals first.

    Raises:
        LayoutError: If torchvision cannot read the files.
    """
    folder = _tree(data, root)
    names = _listed(folder) or _write(data, root, folder)
    samples = class_samples(folder, names, category)
    train = [sample for sample in samples if sample.name.startswith("train/") and not sample.label]
    return Split(train, [sample for sample in samples if sample.name.startswith("test/")])


def fetch_vision(data: str, root: Path) -> None:
    """Let torchvision download a dataset to ``root``, unless its files or the PNG files are there.

    Raises:
        DownloadError: If that fails.
    """
    if _listed(_tree(data, root)):
        return
    try:
        root.mkdir(parents=True, exist_ok=True)
        for part in _PARTS:
            _open(data, root, part, download=True)
    except (*_READER_ERRORS, OSError, HTTPException) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DownloadError(
            f"torchvision cannot download {data} to {root}: {reason}; "
            f"check the network, or put {VISION[data].files} there by hand"
        ) from error


def _tree(data: str, root: Path) -> Path:
    return root / f"{data}-png"


def _listed(folder: Path) -> list[str]:
    """The names of all pictures; empty if they are not written, or not complete any more."""
    listing = folder / _LISTING
    names = listing.read_text(encoding="utf-8").splitlines() if listing.is_file() else []
    return names if all((folder / name).is_file() for name in names) else []


def _write(data: str, root: Path, folder: Path) -> list[str]:
    labels = VISION[data].labels or VISION[data].categories
    names: list[str] = []
    for part in _PARTS:
        try:
            pictures = _open(data, root, part)
            targets = pictures.labels if hasattr(pictures, "labels") else pictures.targets
            written = [f"{part}/{labels[int(target)]}/{index:05d}.png" for index, target in enumerate(targets)]
        except _READER_ERRORS as error:
            raise LayoutError(
                f"the files of {data} ({VISION[data].files}) are missing or damaged in {root}; "
                f"pass the folder that holds them as `root`, or run: robustad download {data} --root {root}"
            ) from error
        write_pictures(folder, written, partial(_picture, pictures))
        names += written
    write_text(folder / _LISTING, "\n".join(names) + "\n")
    return names


def _picture(pictures: Any, index: int) -> Any:
    return pictures[index][0]  # (picture, label)


def _open(data: str, root: Path, part: str, *, download: bool = False) -> Any:
    from torchvision import datasets  # here: it takes a second

    reader = VISION[data].reader
    which: dict[str, Any] = {"split": part} if reader == "SVHN" else {"train": part == "train"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the official pickles were written by an old NumPy, and a new one says so
        return getattr(datasets, reader)(root, download=download, **which)
