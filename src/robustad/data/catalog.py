"""The datasets: one row each, one function to load any of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from robustad._checks import check_choice
from robustad.data.classes import ALL, DIGITS, read_digits
from robustad.data.deeppcb import CATEGORIES as DEEPPCB_CATEGORIES
from robustad.data.deeppcb import read_deeppcb
from robustad.data.folder import load_root
from robustad.data.layouts import LAYOUTS, Layout, list_categories, read_layout
from robustad.data.modules import split_modules
from robustad.data.partition import PARTS, Part, choose_part, hold_out
from robustad.data.roots import default_root
from robustad.data.samples import Split
from robustad.data.tables import ELPV_KINDS, read_elpv, read_visa_csv
from robustad.data.tiles import split_tiles
from robustad.data.vision import VISION, read_vision
from robustad.errors import LayoutError

ELPV_CATEGORIES = (*ELPV_KINDS, *(f"{kind}-new-modules" for kind in ELPV_KINDS))
Reader = Callable[[Path | None, str | None, int], Split]


@dataclass(frozen=True, kw_only=True)
class DatasetEntry:
    """One row of the catalog.

    Attributes:
        title: Full name.
        read: ``(root, category, seed) -> Split`` with the whole test set.
        categories: Official categories; empty if the dataset has none.
        has_masks: Whether anomalous pixels are marked (False: image labels only; None: depends on the folder).
        groups: What a group is, or None where each image stands for itself.
        licence: Licence and source in one line; check it before you use the data.
        image_size: Usual side of the network's input in pixels.
        layout: Row of the table of layouts, if that is how it is read.
        classes: Whether the categories are classes of one collection: one is normal against all others, and the
            category ``all`` makes each of them normal.
    """

    title: str
    read: Reader
    categories: tuple[str, ...] = ()
    has_masks: bool | None = True
    groups: str | None = None
    licence: str
    image_size: int = 224
    layout: Layout | None = None
    classes: bool = False


def load_samples(
    data: str, root: str | Path | None = None, *, category: str | None = None, part: Part = "all", seed: int = 0
) -> Split:
    """Load one category of a dataset.

    Args:
        data: Name in `CATALOG`.
        root: The dataset's folder; None = the installed package (elpv, digits) or the user's data folder.
        category: Product or class, for datasets that have several. ``all`` where categories are classes: each of them
            is normal, and the test set holds no anomaly; `load_multiclass` adds other datasets as anomalies.
        part: ``all`` of the test set, or its half ``dev`` (to make choices on) or ``final`` (to publish). The training
            set is the same for all three.
        seed: Chooses the held-out normals where the dataset has no split of its own (elpv, digits,
            cityscapes, folder).

    Returns:
        Training normals and the test set, in a stable order.

    Raises:
        ValueError: If ``data``, ``part`` or an official category is unknown; the text lists the known ones.
        LayoutError: If files are missing or do not look as the layout says.
        MissingExtra: If the dataset comes with a package that is not installed.
    """
    entry = CATALOG[check_choice("data", data, CATALOG)]
    check_choice("part", part, PARTS)
    split = entry.read(None if root is None else Path(root).expanduser(), category, seed)
    return split._replace(test=choose_part(split.test, part, data=data))


def _read_layout(data: str, root: Path | None, category: str | None, seed: int) -> Split:
    return read_layout(LAYOUTS[data], default_root(data) if root is None else root, category)


def _read_classes(data: str, root: Path | None, category: str | None, seed: int) -> Split:
    layout, root = LAYOUTS[data], default_root(data) if root is None else root
    known = list_categories(layout, root)
    if category != ALL or not known:
        return read_layout(layout, root, category)
    splits = [read_layout(layout, root, name) for name in known]
    normals = [sample for split in splits for sample in split.test if not sample.label]
    return Split([sample for split in splits for sample in split.train], normals)


def _read_vision(data: str, root: Path | None, category: str | None, seed: int) -> Split:
    chosen = _required(category, (*VISION[data].categories, ALL))
    return read_vision(data, default_root(data) if root is None else root, chosen)


def _read_cityscapes(root: Path | None, category: str | None, seed: int) -> Split:
    pool = _read_layout("cityscapes", root, category, seed)
    split = hold_out(pool.train, seed, fraction=0.3)  # as the authors do, but whole frames
    return split._replace(test=split.test + pool.test)


def _read_mtd(root: Path | None, category: str | None, seed: int) -> Split:
    return split_tiles(_read_layout("mtd", root, category, seed))


def _read_visa_csv(root: Path | None, category: str | None, seed: int) -> Split:
    return read_visa_csv(default_root("visa-csv") if root is None else root, category)


def _read_elpv(root: Path | None, category: str | None, seed: int) -> Split:
    kind, _, new_modules = _required(category, ELPV_CATEGORIES).partition("-")
    pool = read_elpv(root, kind)
    return split_modules(pool) if new_modules else _held_out(pool, seed)


def _read_digits(root: Path | None, category: str | None, seed: int) -> Split:
    return _held_out(read_digits(root, _required(category, (*DIGITS, ALL))), seed)


def _read_deeppcb(root: Path | None, category: str | None, seed: int) -> Split:
    chosen = check_choice("category", category or DEEPPCB_CATEGORIES[0], DEEPPCB_CATEGORIES)
    return read_deeppcb(default_root("deeppcb") if root is None else root, chosen)


def _read_folder(root: Path | None, category: str | None, seed: int) -> Split:
    if root is None:
        raise LayoutError("data 'folder' needs a folder of normal images; pass `root`, or call `load_folder`")
    if category is not None:
        raise LayoutError(f"data 'folder' has no categories, got {category!r}; leave it out")
    return load_root(root, seed=seed)


def _held_out(pool: Split, seed: int) -> Split:
    split = hold_out(pool.train, seed)
    return split._replace(test=split.test + pool.test)


def _required(category: str | None, known: tuple[str, ...]) -> str:
    if category is None:
        raise LayoutError(f"`category` is missing; choose one of {', '.join(known)}")
    return check_choice("category", category, known)


# fmt: off
MVTEC = (
    "bottle", "cable", "capsule", "carpet", "grid", "hazelnut", "leather", "metal_nut", "pill", "screw", "tile",
    "toothbrush", "transistor", "wood", "zipper",
)
VISA = (
    "candle", "capsules", "cashew", "chewinggum", "fryum", "macaroni1", "macaroni2", "pcb1", "pcb2", "pcb3", "pcb4",
    "pipe_fryum",
)
DTD = (
    "Blotchy_099", "Fibrous_183", "Marbled_078", "Matted_069", "Mesh_114", "Perforated_037", "Stratified_154",
    "Woven_001", "Woven_068", "Woven_104", "Woven_125", "Woven_127",
)
IMAGENET30 = (
    "acorn", "airliner", "ambulance", "american_alligator", "banjo", "barn", "bikini", "digital_clock", "dragonfly",
    "dumbbell", "forklift", "goblet", "grand_piano", "hotdog", "hourglass", "manhole_cover", "mosque", "nail",
    "parking_meter", "pillow", "revolver", "rotary_dial_telephone", "schooner", "snowmobile", "soccer_ball",
    "stingray", "strawberry", "tank", "toaster", "volcano",
)
# fmt: on


def _row(
    data: str, title: str, licence: str, *, categories: tuple[str, ...] = (), groups: str | None = None
) -> DatasetEntry:
    return DatasetEntry(
        title=title,
        read=partial(_read_layout, data),
        categories=categories,
        has_masks=LAYOUTS[data].mask is not None,
        groups=groups,
        licence=licence,
        layout=LAYOUTS[data],
    )


def _vision_row(data: str, title: str, licence: str) -> DatasetEntry:
    return DatasetEntry(
        title=title,
        read=partial(_read_vision, data),
        categories=VISION[data].categories,
        has_masks=False,
        licence=licence,
        image_size=32,
        classes=True,
    )


CATALOG: dict[str, DatasetEntry] = {
    "mvtec": _row("mvtec", "MVTec AD", "CC BY-NC-SA 4.0; Bergmann et al., CVPR 2019", categories=MVTEC),
    "visa": _row("visa", "VisA, split by foreground masks", "CC BY 4.0; Zou et al., ECCV 2022", categories=VISA),
    "visa-csv": DatasetEntry(
        title="VisA, official one-class split",
        read=_read_visa_csv,
        categories=VISA,
        licence="CC BY 4.0; Zou et al., ECCV 2022",
    ),
    "mpdd": _row(
        "mpdd",
        "MPDD, painted metal parts",
        "CC BY-NC-SA 4.0; Jezek et al., ICUMT 2021",
        categories=("bracket_black", "bracket_brown", "bracket_white", "connector", "metal_plate", "tubes"),
    ),
    "btad": _row("btad", "BTAD, beanTech", "CC BY-NC-SA 4.0; Mishra et al., ISIE 2021", categories=("01", "02", "03")),
    "wfdd": _row(
        "wfdd",
        "WFDD, woven fabrics",
        "see the authors' page; Chen et al., ECCV 2024",
        categories=("grey_cloth", "grid_cloth", "pink_flower", "yellow_cloth"),
    ),
    "dtd": _row("dtd", "DTD-Synthetic", "see the authors' page; Aota et al., WACV 2023", categories=DTD),
    "brats2021": _row(
        "brats2021", "BraTS 2021, brain slices", "registration needed; Baid et al., 2021", groups="patient"
    ),
    "headct": _row("headct", "Head CT haemorrhage", "see the authors' page; Kitamura, 2018"),
    "mtd": DatasetEntry(
        title="Magnetic tile defects",
        read=_read_mtd,
        groups="tile (about six exposures)",
        licence="no licence stated; Huang et al., The Visual Computer 2020",
        layout=LAYOUTS["mtd"],
    ),
    "deeppcb": DatasetEntry(
        title="DeepPCB, tiles of 256 pixels",
        read=_read_deeppcb,
        categories=DEEPPCB_CATEGORIES,
        groups="board group",
        licence="MIT; Tang et al., 2019",
        image_size=256,
    ),
    "elpv": DatasetEntry(
        title="Solar cells, electroluminescence",
        read=_read_elpv,
        categories=ELPV_CATEGORIES,
        has_masks=False,
        groups="module (`new-modules`)",
        licence="CC BY-NC-SA 4.0; Buerhop-Lutz et al., EU PVSEC 2018; Deitsch et al., Solar Energy 2019",
    ),
    "digits": DatasetEntry(
        title="Handwritten digits, one against the rest",
        read=_read_digits,
        categories=DIGITS,
        has_masks=False,
        licence="CC BY 4.0; Alpaydin and Kaynak, UCI 1998, as shipped with scikit-learn",
        image_size=32,
        classes=True,
    ),
    "cifar10": _vision_row("cifar10", "CIFAR-10", "no licence stated; Krizhevsky, 2009"),
    "cifar100": _vision_row("cifar100", "CIFAR-100, its 20 superclasses", "no licence stated; Krizhevsky, 2009"),
    "mnist": _vision_row("mnist", "MNIST", "CC BY-SA 3.0; LeCun, Cortes and Burges, 1998"),
    "fashion-mnist": _vision_row("fashion-mnist", "Fashion-MNIST", "MIT; Xiao et al., 2017"),
    "svhn": _vision_row("svhn", "SVHN, house numbers", "non-commercial; Netzer et al., NIPS workshop 2011"),
    "imagenet30": DatasetEntry(
        title="ImageNet-30",
        read=partial(_read_classes, "imagenet30"),
        categories=IMAGENET30,
        has_masks=False,
        licence="ImageNet's terms (non-commercial research); Hendrycks et al., NeurIPS 2019",
        layout=LAYOUTS["imagenet30"],
        classes=True,
    ),
    "dagm": _row(
        "dagm",
        "DAGM 2007, textures",
        "see the authors' page; Wieler and Hahn, DAGM 2007",
        categories=tuple(f"Class{number}" for number in range(1, 11)),
    ),
    "cityscapes": DatasetEntry(
        title="Cityscapes, patches of street scenes",
        read=_read_cityscapes,
        has_masks=False,
        groups="frame, where patches are named after it",
        licence="Cityscapes' terms (non-commercial); Cordts et al., CVPR 2016",
        layout=LAYOUTS["cityscapes"],
    ),
    "isic2018": _row("isic2018", "ISIC 2018, task 3, skin lesions", "CC BY-NC 4.0; Codella et al., 2019"),
    "folder": DatasetEntry(title="Your own images", read=_read_folder, has_masks=None, licence="yours"),
}
