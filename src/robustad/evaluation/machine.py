"""Where a figure was measured: the machine and the commit."""

from __future__ import annotations

import os
import platform
import subprocess
from pathlib import Path


def environment() -> dict[str, str]:
    """Processor, memory, accelerator and versions, for reports and `machine_description`."""
    import torch

    from robustad import __version__

    accelerator = torch.cuda.get_device_name() if torch.cuda.is_available() else "none"
    return {
        "processor": _processor(),
        "cores": str(num_cores()),
        "memory": _memory(),
        "accelerator": accelerator,
        "system": platform.platform(terse=True),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "robustad": __version__,
    }


def num_cores() -> int:
    """Cores that this process may use: fewer than the machine has under ``taskset``."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def machine_description() -> str:
    """One line about this machine: processor, cores, memory, accelerator, system, Python and torch."""
    facts = environment()
    accelerator = [] if facts["accelerator"] == "none" else [facts["accelerator"]]
    versions = [facts["system"], f"Python {facts['python']}", f"torch {facts['torch']}"]
    return ", ".join([facts["processor"], f"{facts['cores']} cores", facts["memory"], *accelerator, *versions])


def current_commit() -> str:
    """The commit of this checkout, with ``+changes`` if files differ from it; outside of one, the version."""
    from robustad import __version__

    folder = Path(__file__).parent

    def git(*arguments: str) -> str:
        return subprocess.run(
            ["git", "-C", str(folder), *arguments], capture_output=True, text=True, check=True, timeout=20
        ).stdout.strip()

    try:
        # An installed copy may lie inside somebody else's repository: only a tracked file tells that this is ours.
        git("ls-files", "--error-unmatch", Path(__file__).name)
        commit = git("rev-parse", "HEAD")
        return f"{commit}+changes" if git("status", "--porcelain", "--untracked-files=no") else commit
    except (OSError, subprocess.SubprocessError):
        return f"version {__version__}"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine() or "unknown processor"


def _memory() -> str:
    try:
        return f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.0f} GiB"
    except (AttributeError, ValueError, OSError):
        return "unknown memory"
