"""From the words of a command line to an exit code."""

from __future__ import annotations

import difflib
import importlib
import os
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

from robustad import __version__
from robustad._memory import keep_freed_memory
from robustad._quiet import quiet
from robustad.cli.faults import INTERRUPTED, USAGE, UsageError, one_line
from robustad.cli.verbs import ALIASES, VERBS, overview


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command.

    Args:
        arguments: The words after ``robustad``; None = those of this process.

    Returns:
        0 done, 1 error, 2 wrong usage, 3 done but some files could not be used, 130 interrupted.
    """
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")  # names of files may be any bytes
    try:
        code = _dispatch(list(sys.argv[1:] if arguments is None else arguments))
        sys.stdout.flush()
    except BrokenPipeError:  # robustad ... | head
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return code


def _dispatch(words: list[str]) -> int:
    debug = "--debug" in words
    words = [word for word in words if word != "--debug"]
    if not words or words[0] in ("-h", "--help", "help"):
        return _say(overview(), stream=sys.stdout if words else sys.stderr, code=0 if words else USAGE)
    if words[0] in ("-V", "--version"):
        return _say(f"robustad {__version__}")
    name = ALIASES.get(words[0], words[0])
    if name not in VERBS:
        return _complain(_unknown(words[0]), USAGE)
    with nullcontext() if debug else quiet():
        return _guarded(name, words[1:], debug)


def _guarded(name: str, words: list[str], debug: bool) -> int:
    """Run the command; whatever happens becomes one line and an exit code."""
    parsed: list[Any] = []
    module: Any = None
    try:
        module = importlib.import_module(VERBS[name].module)
        parsed.append(module.build(words).parse(words))
        keep_freed_memory()
        code: int = module.run(parsed[0])
    except SystemExit as stop:  # --help and --print_config
        return stop.code if isinstance(stop.code, int) else 0
    except KeyboardInterrupt:
        hint = module.resume_hint(parsed[0]) if parsed and hasattr(module, "resume_hint") else ""
        return _complain("interrupted" + (f"; {hint}" if hint else ""), INTERRUPTED)
    except BrokenPipeError:
        raise
    except UsageError as error:
        return _complain(f"{error}; see robustad {name} --help", USAGE)
    except Exception as error:  # the last place where an error can become a line
        if debug:
            raise
        return _complain(one_line(error), 1)
    return code


def _unknown(word: str) -> str:
    close = difflib.get_close_matches(word, [*VERBS, *ALIASES], n=1)
    hint = f"; did you mean {close[0]}?" if close else f"; commands: {', '.join(VERBS)}"
    return f"there is no command {word!r}{hint}"


def _say(text: str, *, stream: Any = None, code: int = 0) -> int:
    print(text, file=stream or sys.stdout)
    return code


def _complain(text: str, code: int) -> int:
    return _say(f"robustad: error: {text}", stream=sys.stderr, code=code)
