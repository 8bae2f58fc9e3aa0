"""Config dataclasses from plain values: one rule for unknown keys and for lists, wherever they come from."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, TypeVar

Config = TypeVar("Config")


def from_plain(cls: type[Config], values: Mapping[str, Any]) -> Config:
    """Build a config dataclass from plain values (JSON, YAML); lists become tuples.

    Raises:
        ValueError: If a key is unknown; the text lists the known ones. And whatever the dataclass itself checks.
    """
    known = {field.name for field in dataclasses.fields(cls)}  # type: ignore[arg-type]
    unknown = sorted(set(values) - known)
    if unknown:
        raise ValueError(f"unknown option {', '.join(map(repr, unknown))}; known: {', '.join(sorted(known))}")
    return cls(**{key: tuple(value) if isinstance(value, list) else value for key, value in values.items()})
