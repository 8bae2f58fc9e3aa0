"""Plain folders of images: the user's own data, with or without anomalies, masks and foregrounds."""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path

from robustad.data.layouts import MaskFinder
from robustad.data.partition import hold_out
from robustad.data.samples import Sample, Split
from robustad.errors import LayoutError
from robustad.images import list_images

# Names tried below one root, for callers that give a single folder; in any case.
_NAMES = {
    "normal": ("normal", "good", "ok", "train"),
    "test_normal": ("test_normal", "test_good"),
    "anomalous": ("anomalous", "anomaly", "anomalies", "defect", "defects", "defective", "bad", "ng", "nok", "ko"),
    "masks": ("masks", "ground_truth"),
    "foreground": ("foreground", "foreground_mask"),
}


def load_folder(
    normal: str | Path,
    *,
    anomalous: str | Path | None = None,
    masks: str | Path | None = None,
    foreground: str | Path | None = None,
    test_normal: str | Path | None = None,
    group_by: str | None = None,
    seed: int = 0,
    test_fraction: float = 0.2,
) -> Split:
    """Read plain folders, each searched with its sub-folders.

    A mask (or foreground) belongs to the image of the same relative path; its extension may differ and its name may
    end in ``_mask``. Anomalous images without a mask are allowed: they count for image scores only.

    Args:
        normal: Normal images.
        anomalous: Anomalous images for the test.
        masks: Masks of anomalous images.
        foreground: Foreground masks of normal images.
        test_normal: Normal images for the test. Without it, ``test_fraction`` of the normals are held out.
        group_by: Regular expression with one group in parentheses, searched for in each path below its folder: images
            in which it finds the same text show one object, and stay on one side of every split. Objects with an
            anomalous image are never trained on. None = each image shows another object.
        seed: Chooses the held-out images.
        test_fraction: Share of the normals to hold out, in [0, 1].

    Returns:
        Training normals; test normals, then anomalies.

    Raises:
        LayoutError: If a folder is missing or has no image, if a mask has no image, if an image lies both in the
            normal and the anomalous folder, or if a mask would be taken for an image; if ``group_by`` finds nothing in
            a path, or leaves nothing to train on.
        ValueError: If ``group_by`` is no regular expression with one group.
    """
    if masks is not None and anomalous is None:
        raise LayoutError(f"masks {masks} were given without anomalous images; give their folder too, or leave it out")
    read = partial(_samples, group_by=_pattern(group_by))
    normals = read(Path(normal), label=False, annotation=foreground, prefix="normal")
    defects: list[Sample] = []
    if anomalous is not None:
        defects = read(Path(anomalous), label=True, annotation=masks, prefix="anomalous")
    if test_normal is None:
        split = _hold_out(normals, defects, seed, test_fraction)
    else:
        split = Split(normals, read(Path(test_normal), label=False, annotation=None, prefix="test_normal"))
        _check_apart(split.train, split.test + defects)
    _check_disjoint(split.train + split.test + defects)
    return split._replace(test=split.test + defects)


def _hold_out(normals: list[Sample], defects: list[Sample], seed: int, fraction: float) -> Split:
    """Normal images for the test: all of objects with a defect, then whole objects, until they are enough."""
    defective = {sample.group for sample in defects}
    sound = [sample for sample in normals if sample.group not in defective]
    if not sound:
        raise LayoutError("every object has an anomalous image, which leaves none to train on; check `group_by`")
    known = len(normals) - len(sound)
    split = hold_out(sound, seed, fraction=max(0.0, fraction * len(normals) - known) / len(sound))
    train = set(split.train)
    return split._replace(test=[sample for sample in normals if sample not in train])


def _check_apart(train: list[Sample], test: list[Sample]) -> None:
    both = {sample.group for sample in train} & {sample.group for sample in test}
    if both:
        raise LayoutError(
            f"{min(both)} is shown by training and by test images ({len(both)} such objects, by `group_by`); keep each "
            "object on one side, or leave `test_normal` out, so that whole objects are set aside"
        )


def _pattern(group_by: str | None) -> re.Pattern[str] | None:
    if group_by is None:
        return None
    try:
        pattern = re.compile(group_by)
    except re.error as error:
        raise ValueError(f"`group_by` must be a regular expression, got {group_by!r}: {error}") from error
    if pattern.groups != 1:
        raise ValueError(
            f"`group_by` must have one group in parentheses, got {group_by!r}; 'part([0-9]+)' takes a part's number"
        )
    return pattern


def load_root(root: Path, *, group_by: str | None = None, seed: int = 0) -> Split:
    """Read one folder by the names of its sub-folders, e.g. ``normal/``, ``anomalous/``, ``masks/``, ``foreground/``.

    A folder without a sub-folder of normal images is taken as normal images itself, unless its sub-folders say that
    not all is normal.

    Raises:
        LayoutError: As `load_folder`, or if some folder holds images and its name does not say what they are.
    """
    if not root.is_dir():
        raise LayoutError(f"folder {root} does not exist; check the path")
    found = {role: _first_folder(root, names) for role, names in _NAMES.items()}
    normal = found.pop("normal")
    if normal is None:
        stray = [path.name for path in found.values() if path is not None]
        if stray:
            raise LayoutError(f"{root} holds {', '.join(stray)} but no folder `normal`; add one with the good images")
        _check_all_normal(root, several=False)
        return load_folder(root, group_by=group_by, seed=seed)
    _check_all_normal(normal, several=True)
    if found["anomalous"] is None:
        known = {normal, *found.values()}
        others = [path for path in sorted(root.iterdir()) if path.is_dir() and path not in known]
        unknown = [path.name for path in others if path.name[:1] != "." and list_images(path, recursive=True)]
        if unknown:
            raise LayoutError(
                f"{root} holds {normal.name} and {', '.join(unknown)}; call the folder of defects `anomalous`, or name "
                "each folder by its own option"
            )
    return load_folder(
        normal,
        anomalous=found["anomalous"],
        masks=found["masks"],
        foreground=found["foreground"],
        test_normal=found["test_normal"],
        group_by=group_by,
        seed=seed,
    )


def _check_all_normal(folder: Path, *, several: bool) -> None:
    """Defects in folders of names that nobody thought of would be trained on.

    Args:
        folder: Taken as normal images with all that is below.
        several: Whether images may lie in several places of it: its name says that they are normal.
    """
    places = {path.relative_to(folder).parent for path in list_images(folder, recursive=True)}
    telling = {*_NAMES["anomalous"], *_NAMES["masks"], *_NAMES["foreground"]}
    named = sorted({part for place in places for part in place.parts if part.lower() in telling})
    if named or (len(places) > 1 and not several):
        shown = ", ".join(named or sorted(place.as_posix() for place in places)[:3])
        raise LayoutError(
            f"{folder} holds {shown}, and it does not say which images are normal; call their folder `normal` and the "
            "one of defects `anomalous`, or name each folder by its own option (--normal DIR)"
        )


def _first_folder(root: Path, names: tuple[str, ...]) -> Path | None:
    folders = {path.name.lower(): path for path in sorted(root.iterdir(), reverse=True) if path.is_dir()}
    return next((folders[name] for name in names if name in folders), None)


def _samples(
    folder: Path, *, label: bool, annotation: str | Path | None, prefix: str, group_by: re.Pattern[str] | None
) -> list[Sample]:
    paths = list_images(folder, recursive=True)
    if not paths:
        raise LayoutError(f"no images in {folder}; expected files such as .png, .jpg, .bmp or .tif")
    found = _match(paths, folder, Path(annotation)) if annotation is not None else {}
    samples = []
    for path in paths:
        place = path.relative_to(folder)
        name, mask = f"{prefix}/{place.as_posix()}", found.get(path)
        kind = place.parts[0] if label and len(place.parts) > 1 else ""  # defects are often sorted into folders
        group = name if group_by is None else _object_of(place.as_posix(), group_by)
        samples.append(Sample(path, label, mask if label else None, None if label else mask, group, name, kind=kind))
    return samples


def _object_of(place: str, group_by: re.Pattern[str]) -> str:
    match = group_by.search(place)
    if match is None or match[1] is None:
        raise LayoutError(f"`group_by` {group_by.pattern!r} finds nothing in {place}; every path must name its object")
    return match[1]


def _match(paths: list[Path], folder: Path, annotation: Path) -> dict[Path, Path]:
    unused = set(list_images(annotation, recursive=True))
    if not unused:
        raise LayoutError(f"no images in {annotation}; leave the folder out, or fill it")
    finder, found = MaskFinder(), {}
    for path in paths:
        beside = annotation / path.relative_to(folder).parent
        for stem in (path.stem, f"{path.stem}_mask"):
            mask = finder.find(beside, stem, path.suffix)
            if mask is not None:
                found[path] = mask
                unused.discard(mask)
                break
    if unused:
        raise LayoutError(
            f"mask {min(unused)} has no image in {folder} ({len(unused)} such masks); name masks as their images"
        )
    return found


def _check_disjoint(samples: list[Sample]) -> None:
    seen: set[Path] = set()
    for path in (sample.path.resolve() for sample in samples):
        if path in seen:
            raise LayoutError(f"{path} lies in two of the given folders; give folders without overlap")
        seen.add(path)
    masks = {mask.resolve() for sample in samples for mask in (sample.mask_path, sample.foreground_path) if mask}
    if seen & masks:
        raise LayoutError(f"{min(seen & masks)} would be an image and a mask; give masks a folder of their own")
