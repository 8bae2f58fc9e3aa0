"""Optional dependencies: what is missing names its extra; what is broken says so."""

from __future__ import annotations

import json

import pytest

from robustad._extras import require
from robustad.errors import MissingExtra


def test_an_installed_module_is_returned():
    assert require("json", "any") is json


def test_a_missing_module_names_its_extra():
    with pytest.raises(MissingExtra) as caught:
        require("robustad_never_installed", "onnx")
    assert str(caught.value) == 'robustad_never_installed is not installed; run: pip install "robustad[onnx]"'
    assert isinstance(caught.value, ImportError)
    assert isinstance(caught.value.__cause__, ModuleNotFoundError)


def test_a_module_that_is_there_but_broken_is_not_called_missing(tmp_path, monkeypatch):
    """opencv without its system library: installing it again would not help."""
    (tmp_path / "robustad_broken.py").write_text("raise ImportError('libGL.so.1: cannot open shared object file')")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(MissingExtra) as caught:
        require("robustad_broken", "published")
    assert "libGL.so.1" in str(caught.value) and "is not installed" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_error_inside_a_module_is_its_own(tmp_path, monkeypatch):
    (tmp_path / "robustad_raises.py").write_text("raise RuntimeError('mine')")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(RuntimeError, match="mine"):
        require("robustad_raises", "published")
