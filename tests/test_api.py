"""The public names: few, frozen, lazy."""

import ast
from pathlib import Path

import pytest

import robustad

NAMES = [
    "DataConfig",
    "FitConfig",
    "ImageDataset",
    "ImageObjective",
    "MapObjective",
    "PGD",
    "PatchGuard",
    "PatchGuardConfig",
    "Prediction",
    "Predictor",
    "RobustadError",
    "TestConfig",
    "fit",
    "fit_config",
    "load_checkpoint",
    "load_samples",
    "predict",
    "save_checkpoint",
    "test",
    "visualize",
]


def test_the_names_are_these():
    assert list(robustad.__all__) == sorted(robustad.__all__) == NAMES
    assert len(NAMES) <= 20
    assert set(NAMES) <= set(dir(robustad))


@pytest.mark.parametrize("name", NAMES)
def test_each_name_loads_and_is_documented(name):
    value = getattr(robustad, name)
    assert value.__name__ == name and value.__doc__


def test_type_checkers_see_the_same_names():
    stub = ast.parse(Path(robustad.__file__).with_name("__init__.pyi").read_text())
    imports = [
        (alias.asname, node.module) for node in stub.body if isinstance(node, ast.ImportFrom) for alias in node.names
    ]
    assert dict(imports) == robustad._HOMES


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(AttributeError, match=r"'PatchCore'; it has .*PatchGuard"):
        robustad.PatchCore  # noqa: B018
