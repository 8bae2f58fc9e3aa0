"""Config dataclasses from plain values: one rule for unknown keys and for lists, wherever they come from."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

Config = TypeVar("Config")
LIMITS = ("max_time", "max_steps", "max_epochs")
"""Options that say how long to train; who names one of them means none of the others."""


def from_plain(cls: type[Config], values: Mapping[str, Any]) -> Config:
    """Build a config dataclass from plain values (JSON, YAML); lists become tuples, and so does one value for several.

    Raises:
        ValueError: If a key is unknown; the text lists the known ones. And whatever the dataclass itself checks.
    """
    known = {field.name for field in dataclasses.fields(cls)}  # type: ignore[arg-type]
    unknown = sorted(set(values) - known)
    if unknown:
        raise ValueError(f"unknown option {', '.join(map(repr, unknown))}; known: {', '.join(sorted(known))}")
    hints = typing.get_type_hints(cls)
    return cls(**{key: _several(hints[key], value) for key, value in values.items()})


def _several(hint: Any, value: Any) -> Any:
    if isinstance(value, list):
        return tuple(value)
    wanted = any(typing.get_origin(kind) is tuple for kind in (hint, *typing.get_args(hint)))
    return (value,) if wanted and isinstance(value, str | int | float) else value


def from_plain_nested(cls: type[Config], values: Mapping[str, Any]) -> Config:
    """As `from_plain`, with the dataclasses among the fields built from their own plain values."""
    hints = typing.get_type_hints(cls)
    built = {}
    for name, value in values.items():
        kind = hints.get(name)
        if isinstance(kind, type) and dataclasses.is_dataclass(kind) and isinstance(value, Mapping):
            reader = getattr(kind, "from_dict", partial(from_plain, kind))
            built[name] = reader(value)
        else:
            built[name] = value
    return from_plain(cls, built)


def to_plain(config: Any) -> dict[str, Any]:
    """A config dataclass, nested ones included, as plain values that are ready for JSON."""
    plain: dict[str, Any] = _plain(dataclasses.asdict(config))
    return plain


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, Path) else value
