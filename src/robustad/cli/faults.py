"""Errors as one line that a person can act on."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager

from robustad.errors import RobustadError

FAILED, USAGE, PARTIAL, INTERRUPTED = 1, 2, 3, 130

_OS_HINTS = {
    errno.ENOSPC: "free some space and run it again",
    errno.EDQUOT: "your quota is used up; free some space and run it again",
    errno.EACCES: "change its permissions or choose another place",
    errno.EPERM: "change its permissions or choose another place",
    errno.EROFS: "choose another place",
    errno.ENOENT: "check the path",
}


class UsageError(Exception):
    """The words of a command line do not make sense."""


@contextmanager
def usage() -> Iterator[None]:
    """A block in which a wrong value is wrong usage; what is wrong with files is not."""
    try:
        yield
    except RobustadError:
        raise
    except ValueError as error:
        raise UsageError(str(error)) from error


def one_line(error: BaseException) -> str:
    """An error's text for the screen: one line, with what to do where that is known."""
    if isinstance(error, RobustadError):
        return _flat(error)
    if isinstance(error, OSError):
        return _os_error(error)
    if isinstance(error, ValueError | TypeError):
        return _flat(error) or type(error).__name__
    if type(error).__name__ == "SafetensorError":  # not imported for its name: it would cost half a second
        return f"the weights cannot be read or written: {_flat(error)}"
    return f"unexpected {type(error).__name__}: {_flat(error)} (run again with --debug to see where)"


def _os_error(error: OSError) -> str:
    if error.strerror is None:
        return _flat(error)
    place = f"{error.filename}: " if error.filename else ""
    hint = _OS_HINTS.get(error.errno or 0)
    return f"{place}{error.strerror}" + (f"; {hint}" if hint else "")


def _flat(error: BaseException) -> str:
    return " ".join(str(error).split())
