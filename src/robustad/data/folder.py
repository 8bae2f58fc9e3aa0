"""Plain folders of images: the user's own data, with or without anomalies, masks and foregrounds."""

from __future__ import annotations

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
        seed: Chooses the held-out images.
        test_fraction: Share of the normals to hold out, in [0, 1].

    Returns:
        Training normals; test normals, then anomalies.

    Raises:
        LayoutError: If a folder is missing or has no image, if a mask has no image, if an image lies both in the
            normal and the anomalous folder, or if a mask would be taken for an image.
    """
    base = Path(normal)
    normals = _samples(base, label=False, annotation=foreground, prefix="normal")
    if test_normal is None:
        split = hold_out(normals, seed, fraction=test_fraction)
    else:
        split = Split(normals, _samples(Path(test_normal), label=False, annotation=None, prefix="test_normal"))
    if masks is not None and anomalous is None:
        raise LayoutError(f"masks {masks} were given without anomalous images; give their folder too, or leave it out")
    defects: list[Sample] = []
    if anomalous is not None:
        defects = _samples(Path(anomalous), label=True, annotation=masks, prefix="anomalous")
    _check_disjoint(split.train + split.test + defects)
    return split._replace(test=split.test + defects)


def load_root(root: Path, *, seed: int = 0) -> Split:
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
        return load_folder(root, seed=seed)
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


def _samples(folder: Path, *, label: bool, annotation: str | Path | None, prefix: str) -> list[Sample]:
    paths = list_images(folder, recursive=True)
    if not paths:
        raise LayoutError(f"no images in {folder}; expected files such as .png, .jpg, .bmp or .tif")
    found = _match(paths, folder, Path(annotation)) if annotation is not None else {}
    samples = []
    for path in paths:
        place = path.relative_to(folder)
        name, mask = f"{prefix}/{place.as_posix()}", found.get(path)
        kind = place.parts[0] if label and len(place.parts) > 1 else ""  # defects are often sorted into folders
        samples.append(Sample(path, label, mask if label else None, None if label else mask, name, name, kind=kind))
    return samples


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
