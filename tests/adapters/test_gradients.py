"""Gradients of models that switch them off: kept where that helps, found out where it does not."""

from __future__ import annotations

import threading

import pytest
import torch
from torch import nn

from robustad.adapters._gradients import default_dtype, gradient_fault, gradients_kept, thaw
from robustad.attacks import value_and_grad

decorated = torch.no_grad()(lambda x: x.square())


class Scores(nn.Module):
    """Mean of what ``features`` makes of the pixels."""

    def __init__(self, features, dtype=torch.float32):
        super().__init__()
        self.features = features
        self.weight = nn.Parameter(torch.ones(3, 1, 1, dtype=dtype))

    def forward(self, x):
        return (self.features(x) * self.weight).mean(dim=(1, 2, 3))


def under_no_grad(x):
    with torch.no_grad():
        return x.square()


def half_cut(x):
    return x.square() + 3 * x.detach().square()


def test_a_smooth_score_has_no_fault():
    assert gradient_fault(Scores(torch.sin), 16) == ""


@pytest.mark.parametrize(
    ("features", "text"),
    [
        (under_no_grad, "score path is cut: no gradient reaches the pixels"),
        (decorated, "score path is cut: no gradient reaches the pixels"),
        (lambda x: x.round() + 0 * x, "score path is cut: the gradient is zero"),
        (half_cut, "not the slope of its score"),
        (lambda x: torch.from_numpy(x.numpy()), "cannot be computed in float64"),
    ],
)
def test_each_kind_of_cut_is_named(features, text):
    assert text in gradient_fault(Scores(features), 16)


def test_switched_off_gradients_are_kept_in_the_block_only():
    score, x = Scores(under_no_grad).requires_grad_(False), torch.rand(2, 3, 8, 8)
    with gradients_kept():
        _, gradient = value_and_grad(lambda images, _: score(images), x)
    torch.testing.assert_close(gradient, 2 * x / 192)
    with torch.enable_grad():
        assert not score(x.requires_grad_(True)).requires_grad


def test_other_threads_keep_their_own_ways():
    seen = []

    def elsewhere():
        with torch.no_grad():
            seen.append(torch.is_grad_enabled())

    with gradients_kept():
        thread = threading.Thread(target=elsewhere)
        thread.start()
        thread.join()
        with torch.no_grad():
            seen.append(torch.is_grad_enabled())
    assert seen == [False, True]
    with torch.no_grad():
        assert not torch.is_grad_enabled()


def test_an_error_restores_what_was():
    before = torch.no_grad
    with pytest.raises(RuntimeError, match="mine"), gradients_kept(), default_dtype(torch.float64):
        raise RuntimeError("mine")
    assert torch.no_grad is before and torch.get_default_dtype() == torch.float32


def test_tensors_of_inference_mode_become_usable():
    module = nn.Linear(3, 3)
    with torch.inference_mode():
        module.register_buffer("bank", torch.rand(4, 3))
        module.kept = torch.rand(2)
        module.weight = nn.Parameter(torch.rand(3, 3))
    bank = module.bank.clone()
    thaw(module)
    assert not any(tensor.is_inference() for tensor in (module.bank, module.kept, module.weight))
    assert torch.equal(module.bank, bank)
    x = torch.rand(2, 3, requires_grad=True)
    (module(x) @ module.bank.T).sum().backward()
    assert x.grad is not None
