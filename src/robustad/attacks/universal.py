"""One perturbation for all images: what an attacker can print once, or a dirty lens does by chance."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from robustad._checks import check_at_least, check_choice, check_epsilon, check_images
from robustad.attacks.base import Attack, Objective, usable, value_and_grad
from robustad.attacks.projections import Ball


def universal_perturbation(
    objective: Objective,
    images: Tensor,
    *,
    epsilon: float,
    norm: str = "linf",
    passes: int = 20,
    batch_size: int = 16,
    search: Attack | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    """The perturbation ``(3, H, W)`` whose mean objective over the images is the highest that was met.

    Images that were not used to find it say what it is worth: ``(others + perturbation).clamp(0, 1)``.

    Args:
        objective: What is maximised, per image; differentiable, unless ``search`` needs no gradient.
        images: ``(N, 3, H, W)`` in [0, 1], at least one.
        epsilon: Radius, in pixel units of [0, 1].
        norm: ``linf`` or ``l2``.
        passes: Times that all images are gone through.
        batch_size: Images per step.
        search: An attack, of the same norm, that looks for the perturbation instead: each of its queries lays one over
            all images. For detectors without gradients (`robustad.attacks.Square`). ``passes`` is not used then.
        generator: Order of the images; the same state gives the same result.

    Raises:
        ValueError: If there is no image, a number makes no sense, ``search`` has another norm, or a value is NaN.

    Source: the question is Moosavi-Dezfooli et al.'s, CVPR 2017; the ascent in batches is Shafahi et al.'s, AAAI 2020.
    """
    check_images(images)
    check_epsilon(epsilon, norm=norm)
    check_at_least("passes", passes, 1)
    check_at_least("batch_size", batch_size, 1)
    if len(images) == 0:
        raise ValueError("`images` holds none: a universal perturbation is found on images")
    if search is not None:
        check_choice("search.norm", search.norm, (norm,))
        return _searched(search, objective, images.detach(), epsilon, batch_size, generator)
    clean, delta = images.detach(), torch.zeros_like(images[:1])
    ball = Ball(delta, epsilon, norm)
    best, highest = delta, _mean(objective, clean, delta, batch_size)
    for number in range(passes):
        stride = epsilon * max(0.02, 0.5 * (1 - number / passes))
        order = torch.randperm(len(clean), generator=generator or torch.Generator().manual_seed(number))
        for index in torch.split(order.to(clean.device), batch_size):
            _, gradient = value_and_grad(objective, (clean[index] + delta).clamp(0, 1), index)
            gradient = usable(gradient)
            # every image has the same say, however steep its objective is
            size = gradient.abs().mean(dim=(1, 2, 3), keepdim=True).clamp_min(torch.finfo(gradient.dtype).tiny)
            way = ball.direction((gradient / size).mean(0, keepdim=True))
            delta = ball.shortened(delta + stride * way)
        mean = _mean(objective, clean, delta, batch_size)
        if mean > highest:
            best, highest = delta, mean
    return best[0]


def _searched(
    search: Attack,
    objective: Objective,
    clean: Tensor,
    epsilon: float,
    batch_size: int,
    generator: torch.Generator | None,
) -> Tensor:
    """What the attack does to one grey image, whose offset from grey is what lies over all images."""
    grey = torch.full_like(clean[:1], 0.5)

    def mean(x: Tensor, index: Tensor) -> Tensor:
        del index
        return torch.stack([x.new_tensor(_mean(objective, clean, one[None] - grey, batch_size)) for one in x])

    return (search(mean, grey, epsilon=epsilon, generator=generator) - grey)[0]


def _mean(objective: Objective, clean: Tensor, delta: Tensor, batch_size: int) -> float:
    every = torch.arange(len(clean), device=clean.device)
    with torch.no_grad():
        parts = [objective((clean[i] + delta).clamp(0, 1), i) for i in torch.split(every, batch_size)]
    mean = float(torch.cat(parts).mean())
    if math.isnan(mean):
        raise ValueError("the detector gave NaN for an attacked image; correct it, then test again")
    return mean
