"""Protocols beyond one category: all classes normal against other datasets, and each kind of anomaly by itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from robustad._checks import check_choice
from robustad.data.catalog import CATALOG, load_samples
from robustad.data.classes import ALL
from robustad.data.partition import Part
from robustad.data.samples import Sample, Split


def load_multiclass(
    data: str,
    against: Sequence[str],
    *,
    root: str | Path | None = None,
    against_roots: Mapping[str, str | Path] | None = None,
    part: Part = "all",
    seed: int = 0,
) -> Split:
    """Unlabeled multi-class: every class of one dataset is normal, the test images of other datasets are anomalous.

    Args:
        data: Name in `CATALOG` of a dataset whose categories are classes.
        against: Names of other such datasets.
        root: Folder of ``data``; None = its default place.
        against_roots: Folders of the others, by name; where one is missing, its default place counts.
        part: As in `load_samples`, of each dataset for itself.
        seed: As in `load_samples`.

    Returns:
        All training images of ``data``; its test images as normals, then those of each other dataset as anomalies.
        The `Sample.kind` of an anomaly is the name of its dataset, its name and group begin with it.

    Raises:
        ValueError: If a name is unknown, or has no classes; the text lists those that have.
        LayoutError: If files are missing or do not look as they should.
    """
    check_against(data, against)
    split = load_samples(data, root, category=ALL, part=part, seed=seed)
    test = list(split.test)
    for other in against:
        place = (against_roots or {}).get(other)
        test += [
            _anomaly(other, sample) for sample in load_samples(other, place, category=ALL, part=part, seed=seed).test
        ]
    return split._replace(test=test)


def check_against(data: str, against: Sequence[str]) -> None:
    """Raise a ValueError unless each is another dataset with classes, named once."""
    known = [name for name, entry in CATALOG.items() if entry.classes]
    check_choice("data", data, known)
    if not against:
        raise ValueError(f"`against` names no dataset; choose among {', '.join(sorted(known))}")
    for other in against:
        check_choice("against", other, known)
    if data in against or len(set(against)) < len(against):
        raise ValueError(f"`against` must name other datasets than {data!r}, each once; got {', '.join(against)}")


def against_each(samples: Sequence[Sample]) -> dict[str, list[int]]:
    """All normal samples against each kind of anomaly by itself, to measure every pair besides the pooled figure.

    Args:
        samples: A test set.

    Returns:
        By kind of anomaly (class, defect or dataset, see `Sample.kind`): positions in ``samples`` of all normals and of
        the anomalies of this kind, ascending. Empty if no kinds are known.
    """
    kinds = sorted({sample.kind for sample in samples if sample.label and sample.kind})
    return {
        kind: [index for index, sample in enumerate(samples) if not sample.label or sample.kind == kind]
        for kind in kinds
    }


def _anomaly(data: str, sample: Sample) -> Sample:
    name, group = f"{data}/{sample.name}", f"{data}/{sample.group}"
    return sample._replace(label=True, foreground_path=None, kind=data, name=name, group=group)
