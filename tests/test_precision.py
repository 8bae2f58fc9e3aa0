import pytest
import torch
from torch import nn

from robustad import _precision
from robustad._precision import autocast_bfloat16, is_bfloat16


@pytest.mark.parametrize("there", [True, False])
def test_auto_is_what_the_hardware_has(monkeypatch, there):
    monkeypatch.setattr(_precision, "has_bfloat16", lambda: there)
    assert is_bfloat16("auto") is there
    assert is_bfloat16("bfloat16") and not is_bfloat16("float32")


def test_matrices_are_rounded_inside_of_the_block_only():
    layer, x = nn.Linear(8, 8), torch.ones(2, 8)
    with autocast_bfloat16(torch.device("cpu")):
        assert layer(x).dtype == torch.bfloat16
    assert layer(x).dtype == torch.float32
