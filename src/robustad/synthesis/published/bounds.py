"""Published patch sizes per data set and category: smallest and largest side of a pasted patch, pixels at 224."""

from __future__ import annotations

from robustad._checks import check_at_least, check_choice

PUBLISHED_SIZE = 224
DEFAULT_BOUNDS = (14, 86)

_DTD = [
    "Blotchy_099",
    "Fibrous_183",
    "Marbled_078",
    "Matted_069",
    "Mesh_114",
    "Perforated_037",
    "Stratified_154",
    "Woven_001",
    "Woven_068",
    "Woven_104",
    "Woven_125",
    "Woven_127",
]
_WFDD = ("grey_cloth", "grid_cloth", "pink_flower", "yellow_cloth")

BOUNDS: dict[str, dict[str, tuple[int, int]]] = {
    "mvtec": {
        **dict.fromkeys(("toothbrush", "capsule", "pill"), (14, 39)),
        **dict.fromkeys(("cable", "bottle", "hazelnut", "metal_nut", "zipper"), (14, 65)),
        "screw": (9, 35),
        **dict.fromkeys(("transistor", "wood", "carpet", "grid", "leather", "tile"), (14, 86)),
    },
    "visa": {
        **dict.fromkeys(("candle", "chewinggum", "macaroni1", "macaroni2"), (14, 86)),
        **dict.fromkeys(("pcb1", "pcb2", "pcb3", "pcb4", "pipe_fryum"), (14, 86)),
        "capsules": (6, 86),
        "cashew": (10, 86),
        "fryum": (6, 15),
    },
    "mpdd": {
        **dict.fromkeys(("bracket_black", "bracket_brown", "bracket_white", "connector", "tubes"), (6, 86)),
        "metal_plate": (14, 86),
    },
    "btad": {"01": (9, 86), "02": (14, 86), "03": (9, 86)},
    "dtd": dict.fromkeys(_DTD, (14, 86)),
    "brats2021": {"": (14, 86)},
    "headct": {"": (9, 86)},
    "wfdd": dict.fromkeys(_WFDD, (9, 86)),
}
_SAME = {"visa-csv": "visa"}
"""Other splits of the same images."""


def bounds_for(
    dataset: str, category: str | None, image_size: int = PUBLISHED_SIZE, *, published: bool = False
) -> tuple[int, int]:
    """Smallest and largest patch side in pixels for images of ``image_size``.

    The published table holds absolute pixels at 224. Another image size scales them (at least 2 pixels, at most the
    image), unless ``published`` asks for the released behaviour, which leaves them alone. A data set that the paper
    does not know gets 14-86 at 224, scaled in either case.

    Args:
        dataset: Name of the data set, e.g. ``"mvtec"``; any other name is fine.
        category: Category within it; None or an empty string where the data set has none.
        image_size: Side of the training images, pixels.
        published: Do not scale the table's values.

    Returns:
        ``(lower, upper)``.

    Raises:
        ValueError: If the data set is known but the category is not, or ``image_size`` is too small.
    """
    check_at_least("image_size", image_size, 8)
    table = BOUNDS.get(_SAME.get(dataset, dataset))
    if table is None:
        return _scaled(DEFAULT_BOUNDS, image_size)
    bounds = table[""] if "" in table else table[check_choice("category", category or "", table)]
    return bounds if published else _scaled(bounds, image_size)


def _scaled(bounds: tuple[int, int], image_size: int) -> tuple[int, int]:
    factor = image_size / PUBLISHED_SIZE
    lower = max(2, round(bounds[0] * factor))
    return lower, min(image_size, max(lower, round(bounds[1] * factor)))
