"""Keeps freed memory in the process: on a CPU, much of a step's time goes into getting the same pages again.

A step allocates and frees the same large tensors over and over. The C library hands each back to the system at once,
and asks for it anew, page by page, zeroed; where pages are dear (virtual machines) that costs more than the arithmetic.
"""

from __future__ import annotations

import ctypes
import sys

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # of glibc's mallopt(3)
_NEVER = 2**31 - 1


def keep_freed_memory() -> bool:
    """Let glibc keep what is freed for the next allocation, for the rest of the process; True if it listens.

    For programs, not for libraries: it is a setting of the whole process. The environment variables
    ``MALLOC_MMAP_MAX_=0 MALLOC_TRIM_THRESHOLD_=2147483647`` do the same from outside.
    """
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:  # another C library
        return False
    return bool(mallopt(_M_MMAP_MAX, 0)) and bool(mallopt(_M_TRIM_THRESHOLD, _NEVER))
