"""Options that several commands share, and dataclasses from parsed ones."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import yaml

from robustad.cli.faults import UsageError, usage
from robustad.cli.parsing import valued

if TYPE_CHECKING:
    from robustad.cli.parsing import Parser
    from robustad.workflows._data import DataConfig

Config = TypeVar("Config")

DATA_FLAGS = {
    "--data": "data.data",
    "--root": "data.root",
    "--category": "data.category",
    "--against": "data.against",
    "--normal": "data.normal",
    "--anomalous": "data.anomalous",
    "--masks": "data.masks",
    "--test-normal": "data.test_normal",
    "--group-by": "data.group_by",
    "--download": "data.download",
}
DATA_SWITCHES = ("--download",)
DATA_FIELDS = {flag: full.removeprefix("data.") for flag, full in DATA_FLAGS.items()} | {"--foreground": "foreground"}
"""The same flags where a command has no dotted options."""


def add_data_flags(parser: Parser) -> None:
    """The flags of `DATA_FIELDS`, for `data_config`."""
    for flag, field in DATA_FIELDS.items():
        if flag in DATA_SWITCHES:
            parser.add_argument(flag, action="store_true", help=f"the same as --data.{field} of robustad fit")
        else:
            about = "folder of foreground masks," if field == "foreground" else "the same"
            parser.add_argument(flag, type=str, default=None, help=f"{about} as --data.{field} of robustad fit")


def data_config(arguments: Any) -> DataConfig | None:
    """The data that plain flags name; None if none is given.

    Raises:
        UsageError: If they do not say which kind of data: a folder read as another layout would give wrong figures.
    """
    given = {name: arguments[name] for name in DATA_FIELDS.values() if arguments[name]}
    if not given:
        return None
    if "data" not in given and "normal" not in given:
        raise UsageError(f"--{min(given).replace('_', '-')} needs --data NAME (or --normal DIR) beside it")
    from robustad.workflows._data import DataConfig

    with usage():
        return DataConfig.from_dict(given)


def chosen_recipe(words: Sequence[str], first: Mapping[str, str] | None = None) -> str:
    """The recipe that a command line asks for, directly or in its YAML file; it decides the other defaults.

    Args:
        words: The command line.
        first: The recipe of each value of ``--detector``, which counts where no recipe is named.
    """
    named, of_detector = "", ""
    for flag, value in valued(words):  # what comes later wins, as it does in the parser
        if flag == "--recipe":
            named = value
        if flag == "--config":
            named = str(_read(Path(value)).get("recipe", "")) or named
        if flag == "--detector" and first:
            if value not in first:
                raise UsageError(f"--detector must be {' or '.join(first)}, got {value!r}")
            of_detector = first[value]
    return named or of_detector or "default"


def chosen_data(words: Sequence[str]) -> str:
    """The data set that a command line names, directly or in its YAML file; ``folder`` if none."""
    found = "folder"
    for flag, value in valued(words):
        if flag in ("--data", "--data.data"):
            found = value
        if flag == "--config":
            inner = _read(Path(value)).get("data")
            found = str(inner["data"]) if isinstance(inner, Mapping) and "data" in inner else found
    return found


def check_resume(words: Sequence[str]) -> None:
    """Raise a `UsageError` if ``--resume`` comes with options that the run folder decides."""
    given = {word.partition("=")[0] for word in words if word.startswith("-")} - {"-h", "--help"}
    others = sorted(given - {"--resume", "--run-dir"})
    if "--resume" in given and others:
        raise UsageError(f"--resume takes its options from the run folder; leave out {', '.join(others)}")


def _read(path: Path) -> dict[str, Any]:
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError):  # the parser says so, better
        return {}
    return values if isinstance(values, dict) else {}


def nested_defaults(config: Any) -> dict[str, Any]:
    """A dataclass as plain nested values, for ``set_defaults``."""
    values: dict[str, Any] = {}
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        inner = nested_defaults(value) if dataclasses.is_dataclass(value) else None
        if inner is None:
            values[field.name] = value
        else:
            values |= {f"{field.name}.{name}": entry for name, entry in inner.items()}
    return values


def instantiate(config_class: type[Config], arguments: Any) -> Config:
    """A dataclass, nested ones included, from the parsed values of its fields; what else was parsed is left alone.

    Raises:
        UsageError: If the dataclass refuses them.
    """
    values: dict[str, Any] = {}
    hints = typing.get_type_hints(config_class)
    for field in dataclasses.fields(config_class):  # type: ignore[arg-type]
        value = arguments[field.name]
        nested = hints[field.name]
        if isinstance(nested, type) and dataclasses.is_dataclass(nested) and not dataclasses.is_dataclass(value):
            value = instantiate(nested, value)
        elif isinstance(value, Mapping):
            value = dict(value)
        elif hasattr(value, "as_dict"):
            value = value.as_dict()
        values[field.name] = value
    with usage():
        return config_class(**values)
