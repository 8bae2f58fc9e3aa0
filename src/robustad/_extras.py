"""Optional dependencies: imported where they are used, and named by the extra that brings them."""

from __future__ import annotations

import importlib
from typing import Any

from robustad.errors import MissingExtra


def require(module: str, extra: str) -> Any:
    """Import ``module`` or say which extra installs it.

    Raises:
        MissingExtra: If the module is not installed, or is there but cannot be loaded (a system library is missing).
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        problem = "is not installed"
        if not (isinstance(error, ModuleNotFoundError) and error.name in (module, module.partition(".")[0])):
            problem = f"cannot be loaded ({(str(error) or 'ImportError').splitlines()[0]})"
        raise MissingExtra(f'{module} {problem}; run: pip install "robustad[{extra}]"') from error
