"""Command lines that people may copy."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from robustad.workflows._command import command_line
from robustad.workflows._command import test_command as command_of
from robustad.workflows._data import DataConfig
from robustad.workflows.test_config import TestConfig


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"epsilons": (0.5 / 255, 4 / 255)}, f"--epsilons {0.5 / 255!r} 4/255"),
        ({"epsilons": ()}, "--epsilons 0"),
        ({"attacks": (), "epsilons": (2 / 255,)}, "--epsilons 0"),
        ({"epsilons": (np.float64(0.01), 2 / 255)}, "--epsilons 0.01 2/255"),
        ({"norm": "l2", "epsilons": (0.123456789,)}, "--epsilons 0.123456789"),
    ],
)
def test_the_command_says_exactly_which_radii(options, words):
    config = TestConfig(**options)
    made = command_of("c", DataConfig(), dataclasses.asdict(config), dataclasses.asdict(TestConfig()), Path("out"))
    assert words in made


def test_commands_can_be_copied_on_every_system(monkeypatch):
    assert command_line("robustad", "fit", "--run-dir", "my runs/a") == "robustad fit --run-dir 'my runs/a'"
    monkeypatch.setattr("robustad.workflows._command.os.name", "nt")
    assert command_line("robustad", "fit", "--run-dir", "C:\\my runs") == 'robustad fit --run-dir "C:\\my runs"'
    assert command_line("robustad", "fit", "C:\\runs") == "robustad fit C:\\runs"
