"""Optional dependencies: imported where they are used, and named by the extra that brings them."""

from __future__ import annotations

import importlib
from typing import Any

from robustad.errors import MissingExtra


def require(module: str, extra: str) -> Any:
    """Import ``module`` or say which extra installs it.

    Raises:
        MissingExtra: If the module is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise MissingExtra(f'{module} is not installed; run: pip install "robustad[{extra}]"') from error
