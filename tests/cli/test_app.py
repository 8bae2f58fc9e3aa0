"""The command line as a whole: commands, exit codes, one line per error."""

import json
import logging
import os
import subprocess
import sys
import types
import warnings

import pytest

import robustad
from robustad.cli import app, main
from robustad.cli.faults import UsageError, one_line
from robustad.cli.verbs import ALIASES, VERBS
from robustad.errors import CheckpointError


@pytest.fixture
def command(monkeypatch):
    """Install a command ``probe`` whose run is the given function."""

    def install(run, **extra):
        parser = types.SimpleNamespace(parse=lambda words: types.SimpleNamespace(words=words))
        module = types.SimpleNamespace(build=lambda words: parser, run=run, **extra)
        monkeypatch.setitem(VERBS, "probe", app.VERBS["info"]._replace(module="probe_module"))
        monkeypatch.setitem(sys.modules, "probe_module", module)

    return install


def fail(error):
    def run(_):
        raise error

    return run


def only_line(capsys):
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err.count("\n") == 1 and captured.err.endswith("\n")
    return captured.err.rstrip("\n")


def test_help_lists_every_command(capsys):
    assert main(["--help"]) == main(["-h"]) == main(["help"]) == 0
    printed = capsys.readouterr().out
    for name, verb in VERBS.items():
        assert f"  {name:<15}  {verb.summary}\n" in printed
    assert len(max(printed.splitlines(), key=len)) <= 120


def test_without_a_command_the_help_is_an_error(capsys):
    assert main([]) == 2
    captured = capsys.readouterr()
    assert "commands:" in captured.err and captured.out == ""


def test_version(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"robustad {robustad.__version__}\n"


@pytest.mark.parametrize(("word", "hint"), [("predikt", "did you mean predict?"), ("qqq", "commands: demo, fit")])
def test_an_unknown_command(capsys, word, hint):
    assert main([word]) == 2
    assert hint in only_line(capsys)


def test_an_alias_is_the_command(command):
    assert ALIASES == {"train": "fit"}


@pytest.mark.parametrize("name", list(VERBS))
def test_each_command_can_be_built(name, capsys):
    assert main([name, "--help"]) == 0
    assert capsys.readouterr().out.startswith(f"usage: robustad {name}")


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (CheckpointError("no checkpoint\n  folder x"), "no checkpoint folder x"),
        (ValueError("`steps` must be at least 1"), "`steps` must be at least 1"),
        (TypeError("wrong"), "wrong"),
        (
            OSError(28, "No space left on device", "/a/b"),
            "/a/b: No space left on device; free some space and run it again",
        ),
        (
            FileNotFoundError(2, "No such file or directory", "x.png"),
            "x.png: No such file or directory; check the path",
        ),
        (OSError("plain"), "plain"),
        (RuntimeError("odd"), "unexpected RuntimeError: odd (run again with --debug to see where)"),
        (AssertionError(), "unexpected AssertionError:  (run again with --debug to see where)"),
    ],
)
def test_every_error_is_one_line(command, capsys, error, line):
    command(fail(error))
    assert main(["probe"]) == 1
    assert only_line(capsys) == f"robustad: error: {line}"


def test_debug_shows_where(command, capsys):
    command(fail(RuntimeError("odd")))
    with pytest.raises(RuntimeError, match="odd"):
        main(["probe", "--debug"])


def test_wrong_usage_is_two(command, capsys):
    command(fail(UsageError("give a name")))
    assert main(["probe"]) == 2
    assert only_line(capsys) == "robustad: error: give a name; see robustad probe --help"


def test_an_interruption_says_how_to_go_on(command, capsys):
    command(fail(KeyboardInterrupt()), resume_hint=lambda arguments: f"again with {arguments.words}")
    assert main(["probe", "x"]) == 130
    assert only_line(capsys) == "robustad: error: interrupted; again with ['x']"
    command(fail(KeyboardInterrupt()))
    assert main(["probe"]) == 130


def test_the_commands_own_exit_code_counts(command):
    command(lambda arguments: 3)
    assert main(["probe"]) == 3


def test_libraries_are_kept_off_the_screen(command, capfd):
    def run(_):
        warnings.warn("noise", stacklevel=1)
        logging.getLogger("timm").warning("noise")
        return 0

    command(run)
    assert main(["probe"]) == 0
    assert capfd.readouterr() == ("", "")
    assert logging.root.manager.disable == 0
    with pytest.warns(UserWarning, match="noise"):
        main(["probe", "--debug"])


def test_weights_on_a_full_disk():
    class SafetensorError(Exception):
        pass

    line = one_line(SafetensorError("I/O error: No space left on device (os error 28)"))
    assert line.startswith("the weights cannot be read or written") and "No space" in line


def test_the_module_is_the_program(tmp_path):
    done = subprocess.run([sys.executable, "-m", "robustad", "predikt"], capture_output=True, text=True, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "robustad: error: there is no command 'predikt'; did you mean predict?\n"


@pytest.mark.parametrize(("words", "returncode"), [("--help", 1), ("predict --help", 0)])
def test_a_closed_pipe_is_no_traceback(words, returncode):
    code = f"import sys; from robustad.cli import main; sys.exit(main({words.split()!r}))"
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run([sys.executable, "-c", code], stdout=write, stderr=subprocess.PIPE, text=True)
    os.close(write)
    assert (done.returncode, done.stderr) == (returncode, "")


HELP = "help.json"


def _options(name):
    """Each option of a command with its help and default, independent of how argparse lays the text out."""
    import importlib

    parser = importlib.import_module(VERBS[name].module).build([])
    return {
        " ".join(action.option_strings) or action.dest: [action.help or "", repr(action.default)]
        for action in parser._actions
        if action.dest not in ("help", "print_config")
    }


@pytest.mark.parametrize("name", list(VERBS))
def test_the_options_are_frozen(name):
    """Regenerate tests/cli/help.json with ROBUSTAD_UPDATE_SNAPSHOTS=1."""
    from pathlib import Path

    path = Path(__file__).with_name(HELP)
    known = json.loads(path.read_text()) if path.exists() else {}
    found = json.loads(json.dumps(_options(name)))
    if os.environ.get("ROBUSTAD_UPDATE_SNAPSHOTS"):
        path.write_text(json.dumps({**known, name: found}, indent=1, sort_keys=True) + "\n")
        return
    assert found == known.get(name)
