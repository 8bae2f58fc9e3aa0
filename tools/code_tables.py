"""Tables that are read from the code itself, so that the documents cannot drift away from it."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Mapping
from typing import Any

from reasons import REASONS
from result_tables import BLANK, markdown

from robustad.cli.verbs import VERBS
from robustad.corruptions import IMAGENET_C, INDUSTRIAL
from robustad.data import CATALOG, DatasetEntry
from robustad.evaluation import GOALS, SUITE, Suite
from robustad.evaluation.health import CHECKS
from robustad.training import RECIPES, Recipe
from robustad.training.cobra_data import COBRA_DATA, OTHER_DATA
from robustad.workflows.download import offers


def commands() -> str:
    """The commands."""
    return markdown(["command", "what it does"], [[f"`robustad {name}`", v.summary] for name, v in VERBS.items()])


def recipes() -> str:
    """Every option in which the default recipe differs from the published one, and why.

    Raises:
        SystemExit: If nobody wrote down the reason.
    """
    published, default = (_flat(RECIPES[name]()) for name in ("published", "default"))
    differing = [name for name, value in published.items() if value != default[name]]
    if silent := [name for name in differing if name not in REASONS]:
        raise SystemExit(f"tools/reasons.py gives no reason for {', '.join(silent)}")
    cells = [[f"`{n}`", _value(n, published[n]), _value(n, default[n]), REASONS[n]] for n in differing]
    return markdown(["option", "published", "default", "why"], cells)


def datasets() -> str:
    """The catalog."""
    head = ["`--data`", "what", "categories", "masks", "groups kept whole", "licence and source"]
    rows = []
    for name, entry in CATALOG.items():
        masks = {True: "yes", False: "no", None: "if you have them"}[entry.has_masks]
        rows.append([f"`{name}`", entry.title, _categories(entry), masks, entry.groups or BLANK, entry.licence])
    return markdown(head, rows)


def cobra_data() -> str:
    """How COBRA is set up for each data set."""
    head = [
        "`--data`",
        "transforms (weight)",
        "network",
        "pixels",
        "views are",
        "images of an epoch, at least",
        "optimiser",
    ]
    rows = []
    for name, row in [*COBRA_DATA.items(), ("any other", OTHER_DATA)]:
        weights = ", ".join(f"{transform} ({weight:g})" for transform, weight in row.transforms.items())
        varied = ", ".join([*(["cropped"] if row.crop else []), *(["mirrored"] if row.mirror else [])])
        least = f"{row.epoch_images:,}" if row.epoch_images else BLANK
        shown = f"`{name}`" if name in COBRA_DATA else name
        optimizer = "LARS, released rates" if row.rates else "AdamW"
        rows.append([shown, weights, row.backbone, str(row.image_size), varied or BLANK, least, optimizer])
    return markdown(head, rows)


def layouts() -> str:
    """Where each dataset with a folder layout keeps its parts."""
    head = ["`--data`", "training normals", "test normals", "anomalous", "mask", "foreground mask"]
    rows = []
    for name, entry in CATALOG.items():
        if entry.layout is None:
            continue
        parts = (entry.layout.train, entry.layout.test_good, entry.layout.defects, entry.layout.mask)
        rows.append([f"`{name}`", *[_code(part) for part in (*parts, entry.layout.foreground)]])
    return markdown(head, rows)


def downloads() -> str:
    """How each dataset, its masks and released weights are had."""
    head = ["dataset", "images", "foreground masks", "released weights", "page"]
    rows = []
    for offer in offers():
        ways = [way if way != "-" else BLANK for way in (offer.images, offer.masks)]
        rows.append([f"`{offer.name}`", *ways, "yes" if offer.weights else BLANK, offer.page or BLANK])
    return markdown(head, rows)


def goals() -> str:
    """What attacks maximise."""
    rows = [[f"`{name}`", goal.text, goal.needs] for name, goal in GOALS.items()]
    return markdown(["goal", "what is driven the wrong way", "what the detector must have"], rows)


def attacks() -> str:
    """What each named attack consists of, with default effort."""
    rows = []
    for name, build in SUITE.items():
        runs = build(Suite())
        attack = runs[0].attack
        effort = f"{attack.effort}, {attack.restarts} run(s), keeps the {attack.keep} iterate"
        rows.append([f"`{name}`", ", ".join(run.goal for run in runs), effort])
    return markdown(["`--attacks`", "goals", "effort (default)"], rows)


def health() -> str:
    """The checks that a detector must pass before its attacked figures are believed."""
    return markdown(["check", "passes if"], [[name, _first_line(check)] for name, check in CHECKS.items()])


def imagenet_c() -> str:
    """What each corruption of ImageNet-C does, and what differs from the publication."""
    rows = []
    for name, change in IMAGENET_C.items():
        does, _, more = inspect.cleandoc(change.__doc__ or "").partition("\n\n")
        differs = " ".join(more.removeprefix("Differs: ").split())
        rows.append([f"`{name}`", does, differs[:1].upper() + differs[1:]])
    return markdown(["`--corruptions`", "what happens", "what differs from the publication"], rows)


def corruptions() -> str:
    """What each corruption does."""
    rows = [[f"`{name}`", (change.__doc__ or "").splitlines()[0]] for name, change in INDUSTRIAL.items()]
    return markdown(["`--corruptions`", "at severity 5"], rows)


SOURCES: dict[str, Callable[[], str]] = {
    "commands": commands,
    "recipes": recipes,
    "datasets": datasets,
    "cobra-data": cobra_data,
    "layouts": layouts,
    "downloads": downloads,
    "goals": goals,
    "attacks": attacks,
    "health": health,
    "corruptions": corruptions,
    "imagenet-c": imagenet_c,
}


def _flat(recipe: Recipe) -> dict[str, Any]:
    """All options by their name on the command line."""
    flat: dict[str, Any] = {}
    for name, value in dataclasses.asdict(recipe).items():
        nested = isinstance(value, Mapping)
        flat |= {f"--{name}.{key}": item for key, item in value.items()} if nested else {f"--{name}": value}
    return flat


def _value(name: str, value: Any) -> str:
    if name.endswith("feature_layers") and value == ():
        return "last"
    if value is None or value == ():
        return BLANK
    if isinstance(value, bool):
        return "yes" if value else "no"
    if name.endswith("epsilon"):
        return f"{value * 255:g}/255"
    if isinstance(value, tuple | list):
        return ", ".join(f"{item:g}" for item in value)
    return f"{value:g}" if isinstance(value, float) else str(value)


def _categories(entry: DatasetEntry) -> str:
    if len(entry.categories) > 4:
        return f"{len(entry.categories)}: {entry.categories[0]} … {entry.categories[-1]}"
    return ", ".join(entry.categories) or BLANK


def _code(template: str | None) -> str:
    return BLANK if template is None else f"`{template}`"


def _first_line(function: Callable[..., Any]) -> str:
    return (function.__doc__ or "").strip().splitlines()[0]
