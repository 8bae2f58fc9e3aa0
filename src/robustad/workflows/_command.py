"""The command line that repeats a test, for people who started it from Python."""

from __future__ import annotations

import os
import shlex
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from robustad.reporting import format_epsilon
from robustad.workflows._data import DataConfig


def command_line(*words: str) -> str:
    """Words as one line to copy into a terminal of this system."""
    return subprocess.list2cmdline(words) if os.name == "nt" else shlex.join(words)


def test_command(
    checkpoint: str | Path, data: DataConfig, options: Mapping[str, Any], defaults: Mapping[str, Any], out: Path
) -> str:
    """``robustad test ...``; options at their defaults are left out."""
    words = ["robustad", "test", str(checkpoint)]
    for name, value in data.to_dict().items():
        if value not in (None, False):
            words += _option(name, value)
    norm = str(options.get("norm", "linf"))
    if options.get("attacks") == () or options.get("epsilons") == ():  # nothing is attacked
        options = {**options, "attacks": None, "epsilons": (0,)}
    for name, value in options.items():
        if value != defaults[name]:
            words += _option(name, value, norm)
    return command_line(*words, "--out", str(out))


def _option(name: str, value: Any, norm: str = "linf") -> list[str]:
    flag = f"--{name.replace('_', '-')}"
    if isinstance(value, bool):
        return [flag if value else f"--no-{name.replace('_', '-')}"]
    if isinstance(value, tuple):
        radii = name in ("epsilons", "universal")
        return [flag, *(_radius(item, norm) if radii else str(item) for item in value)]
    return [flag, str(value)]


def _radius(value: float, norm: str) -> str:
    """As people write it, if that is the same number."""
    if value == 0:
        return "0"
    levels = round(255 * value)
    return format_epsilon(value, norm) if norm == "linf" and levels / 255 == value else repr(float(value))
