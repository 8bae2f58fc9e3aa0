"""Gradients through models that switch them off, and whether what comes out is the slope of the score."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from robustad._random import torch_generator
from robustad.evaluation.slopes import MAX_FD_ERROR, slope_errors

_LOCK = threading.RLock()


@contextmanager
def gradients_kept() -> Iterator[None]:
    """Make ``torch.no_grad()`` do nothing in this thread, as models call it that were not made to be attacked.

    Functions that were decorated with it when they were defined keep it; `gradient_fault` finds them out.
    """
    with _LOCK:  # one thread at a time: each restores what it found
        original, owner = torch.no_grad, threading.get_ident()

        def no_grad(function: Callable[..., Any] | None = None) -> Any:
            if threading.get_ident() != owner:
                return original() if function is None else original()(function)
            return nullcontext() if function is None else function

        torch.no_grad = no_grad  # type: ignore[assignment, misc]
        try:
            yield
        finally:
            torch.no_grad = original  # type: ignore[misc]


@contextmanager
def default_dtype(dtype: torch.dtype) -> Iterator[None]:
    """New tensors have this type: models that make some on the way would else round float64 to float32."""
    with _LOCK:
        before = torch.get_default_dtype()
        torch.set_default_dtype(dtype)
        try:
            yield
        finally:
            torch.set_default_dtype(before)


def thaw(module: nn.Module) -> None:
    """Replace tensors that were made in inference mode, which autograd cannot use, by equal ones."""
    with torch.inference_mode(False), torch.no_grad():
        for part in module.modules():
            stores: tuple[dict[str, Any], ...] = (part._parameters, part._buffers, vars(part))
            for held in stores:
                for name, value in list(held.items()):
                    if isinstance(value, Tensor) and value.is_inference():
                        plain = value.clone()
                        held[name] = nn.Parameter(plain, value.requires_grad) if held is part._parameters else plain


def gradient_fault(score: nn.Module, image_size: int, *, images: Tensor | None = None, seed: int = 0) -> str:
    """Why the gradient of a score is not to be used; empty = it is the slope of the score.

    Finite differences in float64, along two random directions at each image.

    Args:
        score: Module from images ``(N, 3, S, S)`` to scores ``(N,)``; a copy is computed in float64.
        image_size: S.
        images: Where to look ``(N, 3, S, S)`` in [0, 1]; by default made ones.
        seed: Seed of made images and of directions.
    """
    x = _made_images(image_size, seed) if images is None else images.detach().cpu().double().clamp(1e-3, 1 - 1e-3)
    try:
        exact = copy.deepcopy(score).cpu().double().eval().requires_grad_(False)
        with torch.enable_grad():
            x = x.requires_grad_(True)
            values = exact(x)
            if not values.requires_grad:
                return "its score path is cut: no gradient reaches the pixels"
            (gradient,) = torch.autograd.grad(values.sum(), x, allow_unused=True)
    except (RuntimeError, TypeError, NotImplementedError) as error:
        return f"its gradient cannot be computed in float64 ({_line(error)})"
    if gradient is None or not bool(gradient.flatten(1).norm(dim=1).min() > 0):
        return "its score path is cut: the gradient is zero"
    middle = _median_error(exact, x.detach(), gradient, seed)
    if middle < MAX_FD_ERROR:
        return ""
    return f"its gradient is not the slope of its score (median relative error {middle:.0%}, limit {MAX_FD_ERROR:.0%})"


def _median_error(score: nn.Module, x: Tensor, gradient: Tensor, seed: int) -> float:
    generators = (torch_generator(seed, "direction", number) for number in range(2))
    return float(torch.cat([slope_errors(score, x, gradient, generator) for generator in generators]).median())


def _made_images(size: int, seed: int, count: int = 4) -> Tensor:
    """Soft patches of grey with a little noise, so that neither flat nor wild places are all that is seen."""
    generator = torch_generator(seed, "images")
    coarse = torch.rand(count, 3, 8, 8, generator=generator, dtype=torch.float64)
    fine = torch.rand(count, 3, size, size, generator=generator, dtype=torch.float64)
    return 0.2 + 0.5 * F.interpolate(coarse, size=(size, size), mode="bilinear") + 0.1 * fine


def _line(error: Exception) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 120 else f"{text[:117]}..."
