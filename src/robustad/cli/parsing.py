"""The parser of one command: flags, YAML files, and errors of one line."""

from __future__ import annotations

import argparse
import difflib
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

import jsonargparse
import yaml

from robustad._configs import LIMITS
from robustad.cli.faults import UsageError
from robustad.cli.values import BY_NAME, MANY, read_by_name

# set before the first parser: its notes are for programmers, not for those who type commands
os.environ.setdefault("JSONARGPARSE_DEPRECATION_WARNINGS", "off")
_MODE = "robustad"


def _load(text: str) -> Any:
    return read_by_name(yaml.safe_load(text))


jsonargparse.set_loader(_MODE, _load, exceptions=(yaml.YAMLError,))


class _Formatter(jsonargparse.DefaultHelpFormatter):
    """Types only where they help, and no default where it is to do nothing."""

    def _get_help_string(self, action: argparse.Action) -> str:
        text = str(super()._get_help_string(action))
        if action.default is None or action.default is False:
            text = re.sub(r"(, )?default: %\(default\)s", "", text)
        if "." not in action.dest:
            text = re.sub(r"type: %\(type\)s(, )?", "", text)
        return re.sub(r"\s*\((required)?(, )?\)", "", text)


class Parser(jsonargparse.ArgumentParser):
    """jsonargparse with ``--config FILE.yaml``, short forms of dotted flags, and `UsageError` for wrong usage.

    Args:
        verb: Name of the command.
        description: What it does.
        short_forms: From short flags to dotted options, e.g. ``{"--epsilon": "training.epsilon"}``.
        switches: Those of them that take no value and mean true.
        epilog: Text at the end of the help.
        usage: First line of the help where listing all flags would be a wall.
    """

    def __init__(
        self,
        verb: str,
        description: str,
        *,
        short_forms: Mapping[str, str] | None = None,
        switches: Sequence[str] = (),
        epilog: str = "",
        usage: str | None = None,
    ) -> None:
        super().__init__(
            prog=f"robustad {verb}",
            usage=usage,
            description=description,
            parser_mode=_MODE,
            formatter_class=_Formatter,
            exit_on_error=False,
            default_env=False,
            allow_abbrev=False,
        )
        self._short_forms = dict(short_forms or {})
        self._switches = tuple(switches)
        self._epilog = epilog
        self.add_argument("--config", action="config", help="YAML file with any of these options")

    def parse(self, words: Sequence[str]) -> Any:
        """The namespace for the words of a command line.

        Raises:
            UsageError: If they are wrong.
        """
        try:
            expanded = self._expand(words)
            files = self._read_configs(expanded)  # before anything else complains about them in other words
            expanded += self._other_limits(expanded, files)
            return self.parse_args(expanded)
        except argparse.ArgumentError as error:
            raise UsageError(_clean(str(error))) from error
        except argparse.ArgumentTypeError as error:
            raise UsageError(str(error)) from error

    def add_config(self, config_class: type) -> None:
        """One option per field of a dataclass, dotted where it holds further ones."""
        self.add_class_arguments(config_class, None)
        dotted = {action.dest.partition(".")[0] for action in self._actions if "." in action.dest}
        for action in self._actions:
            if action.dest in dotted:  # "--training CONFIG" would only hide that "--data" is a short form
                action.help = argparse.SUPPRESS

    def error(self, message: str, *args: Any) -> NoReturn:
        """Raise instead of printing the usage."""
        raise UsageError(_clean(message) + self._meant(message))

    def _meant(self, message: str) -> str:
        """The flag that an unknown one may stand for."""
        unknown = re.search(r"nrecognized arguments: (--[\w.-]+)", message)
        known = [*self._short_forms, *self._option_string_actions]
        close = difflib.get_close_matches(unknown[1], known, n=1) if unknown else []
        return f"; did you mean {close[0]}?" if close else ""

    def format_help(self, *args: Any, **kwargs: Any) -> str:  # what it takes depends on jsonargparse's version
        """The help, with the short forms below."""
        lines = [f"  {short:<16} --{full}" for short, full in self._short_forms.items()]
        parts = [super().format_help(*args, **kwargs).replace("``", "").rstrip()]
        parts += ["short forms:\n" + "\n".join(lines)] if lines else []
        return "\n\n".join([*parts, *([self._epilog] if self._epilog else [])]) + "\n"

    def _expand(self, words: Sequence[str]) -> list[str]:
        """Short forms written out, and numbers as people write them turned into plain ones."""
        result: list[str] = []
        current = ""  # the option that the next words belong to
        for word in words:
            if not word.startswith("--"):
                result.append(repr(BY_NAME[current](word)) if current in BY_NAME else word)
                current = current if current in MANY else ""
                continue
            flag, equals, value = word.partition("=")
            full = f"--{self._short_forms[flag]}" if flag in self._short_forms else flag
            if flag in self._switches and not equals:
                equals, value = "=", "true"
            name = _last(full)
            result.append(full + equals + (repr(BY_NAME[name](value)) if equals and name in BY_NAME else value))
            current = "" if equals else name
        return result

    def _other_limits(self, words: Sequence[str], files: Sequence[Mapping[str, Any]]) -> list[str]:
        """Who names one length of a training means none of the others, such as the epochs of a recipe or of a file."""
        limits = {f"--training.{name}" for name in LIMITS} & set(self._option_string_actions)
        inner = [values["training"] for values in files if isinstance(values.get("training"), dict)]
        in_files = {f"--training.{name}" for values in inner for name, limit in values.items() if limit is not None}
        named = limits & {flag for flag, value in valued(words) if value != "null"} or limits & in_files
        return [word for flag in sorted(limits - named) if named for word in (flag, "null")]

    def _read_configs(self, words: Sequence[str]) -> list[Mapping[str, Any]]:
        """The YAML files that are named.

        Raises:
            UsageError: If one is not there, is not YAML, or holds an unknown key.
        """
        return [self._config(Path(value)) for flag, value in valued(words) if flag == "--config"]

    def _config(self, path: Path) -> Mapping[str, Any]:
        if not path.is_file():
            raise UsageError(f"config file {path} does not exist")
        try:
            values = yaml.safe_load(path.read_text(encoding="utf-8"))
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise UsageError(f"config file {path} is not YAML: {' '.join(str(error).split())}") from error
        if not isinstance(values, dict):
            raise UsageError(f"config file {path} must hold `option: value` lines")
        self._check_keys(path, values, "")
        return values

    def _check_keys(self, path: Path, values: Mapping[Any, Any], prefix: str) -> None:
        names = [action.dest for action in self._actions if action.dest not in ("help", "config", "print_config")]
        known = {name[len(prefix) :].partition(".")[0] for name in names if name.startswith(prefix)}
        for key, value in values.items():
            if key not in known:
                close = difflib.get_close_matches(str(key), known, n=1)
                hint = f"did you mean {prefix + close[0]!r}? " if close else ""
                listed = ", ".join(sorted(known))
                where = f" of {prefix[:-1]!r}" if prefix else ""
                raise UsageError(f"unknown key {prefix + str(key)!r} in {path}; {hint}known keys{where}: {listed}")
            inner = f"{prefix}{key}."
            if isinstance(value, dict) and any(name.startswith(inner) for name in names):
                self._check_keys(path, value, inner)


def valued(words: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Every word that could be a flag, with the value after it or behind its equals sign."""
    for number, word in enumerate(words):
        flag, equals, value = word.partition("=")
        yield flag, value if equals else "".join(words[number + 1 : number + 2])


def _last(flag: str) -> str:
    """``--training.max_time`` and ``--max-time`` alike as ``max_time``."""
    return flag.rpartition(".")[2].lstrip("-").replace("-", "_")


def _clean(message: str) -> str:
    """A parser's message in one line and plain words."""
    text = " ".join(message.split())
    text = re.sub(r"^(?:Validation failed: )?Parser key \"([\w.]+)\"(?: element \d+)?:\s*", r"--\1: ", text)
    text = re.sub(r"<class '(?:\w+\.)*(\w+)'>", r"\1", text)
    return text.rstrip(". ")
