"""Peak memory of rivals, each in a process of its own: ``python -m benchmarks.memory MODULE RIVAL [--quick]``.

What counts is the resident memory that the second call adds to what the first one left, as the kernel sees it: the
first one also loads code. PyTorch keeps no
statistics of its allocator on a CPU, and its profiler does not see the buffers of oneDNN, which bfloat16 needs most.
The high-water mark is that of the address space (``VmHWM``), reset before the call; ``ru_maxrss`` would begin with
that of the parent. Large blocks go back to the system the moment they are freed, so that no gaps are counted.
"""

from __future__ import annotations

import argparse
import gc
import importlib
import os
import subprocess
import sys
from pathlib import Path

import torch

from robustad.evaluation import BenchmarkRow

_STATUS, _RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def memory_row(claim: str, module: str, baseline: str, ours: str, *, quick: bool) -> list[BenchmarkRow]:
    """Peak memory of two rivals of a module as a row; none where the system does not tell (anything but Linux).

    Args:
        claim: What the row says.
        module: A module with ``rival(name, quick=...)``, which builds a call without arguments.
        baseline: Name of the rival to beat.
        ours: Name of ours.
        quick: Size.
    """
    if not _RESET.exists():
        return []
    theirs, own = (_in_process(module, name, quick) / 2**20 for name in (baseline, ours))
    figures = {"baseline": round(theirs, 1), "ours": round(own, 1), "ratio": round(theirs / own, 3)}
    return [BenchmarkRow(claim=claim, unit="MiB", **figures)]


def _in_process(module: str, rival: str, quick: bool) -> int:
    command = [sys.executable, "-m", "benchmarks.memory", module, rival, *["--quick"] * quick]
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536"}  # otherwise glibc raises it as it goes
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment)
    return int(done.stdout.split()[-1])


def _bytes(field: str) -> int:
    line = next(line for line in _STATUS.read_text(encoding="ascii").splitlines() if line.startswith(f"{field}:"))
    return 1024 * int(line.split()[1])


def main() -> None:
    """Print how many bytes one more call of a rival adds."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.memory", description=__doc__)
    parser.add_argument("module")
    parser.add_argument("rival")
    parser.add_argument("--quick", action="store_true")
    given = parser.parse_args()
    torch.set_num_threads(1)
    call = importlib.import_module(given.module).rival(given.rival, quick=given.quick)
    call()
    gc.collect()
    before = _bytes("VmRSS")
    _RESET.write_text("5", encoding="ascii")  # the high-water mark becomes what is resident now
    call()
    print(_bytes("VmHWM") - before)


if __name__ == "__main__":
    main()
