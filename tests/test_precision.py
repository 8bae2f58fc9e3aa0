import pytest
import torch
from torch import nn

from robustad import _precision
from robustad._precision import autocast_bfloat16, bfloat16_pays, is_bfloat16


@pytest.mark.parametrize("faster", [True, False])
def test_auto_is_what_is_faster(monkeypatch, faster):
    monkeypatch.setattr(_precision, "bfloat16_pays", lambda _device: faster)
    assert is_bfloat16("auto") is faster
    assert is_bfloat16("bfloat16") and not is_bfloat16("float32")


def test_matrices_are_rounded_inside_of_the_block_only():
    layer, x = nn.Linear(8, 8), torch.ones(2, 8)
    with autocast_bfloat16(torch.device("cpu")):
        assert layer(x).dtype == torch.bfloat16
    assert layer(x).dtype == torch.float32


@pytest.mark.parametrize(("half", "pays"), [(0.4, True), (0.9, False), (2.0, False)])
def test_hardware_that_has_it_may_be_slower_in_it(monkeypatch, half, pays):
    clock = [0.0]

    def product(first, _second):
        clock[0] += 1.0 if first.dtype == torch.float32 else half
        return first

    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: True, raising=False)
    monkeypatch.setattr(torch, "mm", product)
    monkeypatch.setattr(_precision.time, "process_time", lambda: clock[0])
    _precision._is_faster_on_the_cpu.cache_clear()
    try:
        assert bfloat16_pays(torch.device("cpu")) is pays
    finally:
        _precision._is_faster_on_the_cpu.cache_clear()


def test_other_devices_are_asked_themselves(monkeypatch):
    monkeypatch.setattr(_precision, "_is_faster_on_the_cpu", lambda: True)
    assert not bfloat16_pays(torch.device("mps"))
    assert bfloat16_pays(torch.device("cuda")) == (torch.cuda.is_available() and torch.cuda.is_bf16_supported(False))
