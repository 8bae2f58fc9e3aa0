"""Which images a workflow is about: options, and the samples behind them."""

from __future__ import annotations

import dataclasses
import hashlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self, cast

from robustad._checks import check_choice
from robustad._configs import from_plain
from robustad.data import CATALOG, Sample, Split, load_folder, load_multiclass, load_samples
from robustad.data.classes import ALL
from robustad.data.folder import load_root
from robustad.data.multiclass import check_against
from robustad.data.partition import Part, choose_part

_PATHS = ("root", "normal", "anomalous", "masks", "foreground", "test_normal")
_NOTHING_TO_FETCH = ("elpv", "digits", "folder")


@dataclasses.dataclass(frozen=True, kw_only=True)
class DataConfig:
    """What to train or test on.

    Attributes:
        data: Name of a dataset, or ``folder`` for plain folders.
        root: Folder of the dataset; by default where `robustad download` puts it.
        category: Category within the dataset; ``all`` = every class is normal, where categories are classes.
        against: Other datasets, separated by commas: their test images are the anomalies, all of ``data`` is normal.
        normal: Folder of normal images (``folder``).
        anomalous: Folder of anomalous images (``folder``); may be left out.
        masks: Folder of the anomalous images' masks (``folder``); may be left out.
        foreground: Folder of the normal images' foreground masks (``folder``); may be left out.
        test_normal: Folder of normal images to test on; by default a fifth of ``normal`` is set aside.
        group_by: Regular expression with one group in parentheses (``folder``), e.g. ``part([0-9]+)``: images whose
            paths have the same text there show one object, which no split, half or resample divides.
        download: Fetch the dataset first if it is not there.
    """

    data: str = "folder"
    root: Path | None = None
    category: str | None = None
    against: str | None = None
    normal: Path | None = None
    anomalous: Path | None = None
    masks: Path | None = None
    foreground: Path | None = None
    test_normal: Path | None = None
    group_by: str | None = None
    download: bool = False

    def __post_init__(self) -> None:
        for name in _PATHS:  # callers in Python may give texts, files a home directory
            if (value := getattr(self, name)) is not None:
                object.__setattr__(self, name, Path(os.path.expanduser(value)))  # noqa: PTH111 - Path refuses ~nobody
        check_choice("data", self.data, CATALOG)
        self._check_used()
        if self.against is None:
            return
        check_against(self.data, self.others)
        if self.category not in (None, ALL):
            raise ValueError(f"`against` makes every class of {self.data} normal; leave category {self.category!r} out")

    def _check_used(self) -> None:
        """An option that would be ignored is an error."""
        given = [
            name for name in ("anomalous", "masks", "foreground", "test_normal") if getattr(self, name) is not None
        ]
        if self.data != "folder" and self.group_by is not None:
            raise ValueError(f"`group_by` is for images of your own; {self.data} knows what its groups are")
        if self.data != "folder" and (self.normal or given):
            name = "normal" if self.normal else given[0]
            raise ValueError(f"`{name}` is for images of your own; {self.data} knows where its images lie")
        if self.data == "folder" and self.normal is None and given:
            raise ValueError(f"`{given[0]}` needs `normal`, a folder of normal images, beside it")
        if self.normal is not None and self.root is not None:
            raise ValueError("`root` and `normal` both say where normal images lie; give one of them")

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return {k: str(v) if isinstance(v, Path) else v for k, v in dataclasses.asdict(self).items()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> DataConfig:
        """The inverse of `to_dict`."""
        return from_plain(cls, values)

    def resolved(self) -> Self:
        """With absolute paths: for who keeps it, and may be used from another working directory."""
        paths = {name: value.absolute() for name, value in vars(self).items() if isinstance(value, Path)}
        return dataclasses.replace(self, **cast(dict[str, Any], paths))

    @property
    def label(self) -> str:
        """Short name for tables, e.g. ``elpv:mono``."""
        if self.others:
            return f"{self.data}:all-against-{'+'.join(self.others)}"
        return f"{self.data}:{self.category}" if self.category else self.data

    @property
    def others(self) -> tuple[str, ...]:
        """The datasets named by ``against``."""
        return tuple(name.strip() for name in (self.against or "").split(",") if name.strip())


def load_split(config: DataConfig, *, part: Part = "all", seed: int = 0) -> Split:
    """Samples of a config.

    Args:
        config: See `DataConfig`.
        part: Half of the test set: ``all``, ``dev`` or ``final``.
        seed: Which normal images are set aside for testing, where the dataset does not say.

    Raises:
        ValueError: If neither a dataset root nor a folder of normal images is given, or a name does not exist.
        LayoutError: If the folders do not look as they should.
    """
    if config.download:
        _fetch(config)
    if config.others:
        return load_multiclass(config.data, config.others, root=config.root, part=part, seed=seed)
    if config.data == "folder" and config.normal is not None:
        return load_folder(
            config.normal,
            anomalous=config.anomalous,
            masks=config.masks,
            foreground=config.foreground,
            test_normal=config.test_normal,
            group_by=config.group_by,
            seed=seed,
        )
    if config.data == "folder" and config.root is None:
        raise ValueError("no images given: pass `--normal DIR` (a folder of normal images), or `--data NAME`")
    if config.root is not None and config.group_by is not None:
        split = load_root(config.root, group_by=config.group_by, seed=seed)
        return split._replace(test=choose_part(split.test, part, data="folder"))
    return load_samples(config.data, config.root, category=config.category, part=part, seed=seed)


def images_of(data: DataConfig, *, part: Part, seed: int) -> Split:
    """Images of a config, the test being a part; the seed of a training decides which normals it never saw."""
    by_hand = data.data == "folder" and data.normal is not None  # load_folder knows no parts
    split = load_split(data, part="all" if by_hand else part, seed=seed)
    return split._replace(test=choose_part(split.test, part, data="folder")) if by_hand else split


def _fetch(config: DataConfig) -> None:
    from robustad.data.download import download_dataset

    for name in (config.data, *config.others):
        if name not in _NOTHING_TO_FETCH:
            download_dataset(name, config.root if name == config.data else None)


def fingerprint(samples: Sequence[Sample], *, truth: bool = False) -> str:
    """Short digest of which files a list of samples names, in order, and of their sizes.

    Args:
        samples: In their order.
        truth: Whether labels, masks and the contents of all files count as well: for what is known of test images.
    """
    digest, contents = hashlib.sha256(), dict[Path, bytes]()
    for sample in samples:
        size = sample.path.stat().st_size if sample.path.is_file() else -1
        # names that are not UTF-8 are names, too
        digest.update(f"{sample.name}\0{size}\0{sample.crop}\n".encode(errors="surrogateescape"))
        if truth:
            digest.update(f"{sample.label}\0{sample.boxes}\0".encode())
            for path in (sample.path, sample.mask_path):
                if path is not None and path not in contents:  # several samples may be cut out of one file
                    contents[path] = hashlib.sha256(path.read_bytes()).digest() if path.is_file() else b"-"
                digest.update(b"-" if path is None else contents[path])
    return digest.hexdigest()[:16]


def thinned(samples: Sequence[Sample], limit: int | None) -> list[Sample]:
    """At most ``limit`` samples, evenly out of both classes, in their order.

    Classes keep their proportion, but neither falls below a quarter of ``limit`` while it has that many: a figure from
    a single normal image says nothing.
    """
    if limit is None or len(samples) <= limit:
        return list(samples)
    chosen: set[int] = set()
    for label in (False, True):
        members = [index for index, sample in enumerate(samples) if sample.label == label]
        least = max(1, limit // 4)
        most = limit if len(members) == len(samples) else limit - least
        count = min(
            max(least, min(round(limit * len(members) / len(samples)), most)), len(members), limit - len(chosen)
        )
        chosen |= {members[round(i * (len(members) - 1) / max(1, count - 1))] for i in range(count)}
    return [samples[index] for index in sorted(chosen)]
