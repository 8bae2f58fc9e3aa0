"""Claim "cobra step": COBRA's training step as it is usually written, against ours, on the same network.

The literal step runs its three attacks one after the other in float32, sends the fixed target of an attack through the
network again in each of its steps, back-propagates into all weights while attacking, and throws those gradients away.
Ours computes targets once, lets all three attacks share their passes, and takes pixel gradients only, in bfloat16 where
the processor has it. Both attack the same views from the same starts; before anything is timed, both must give the same
loss in float32.
"""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks.roofline import automatic, operations, share_of_peak
from benchmarks.timing import alternate
from robustad._random import torch_generator
from robustad.detectors import Cobra, CobraConfig
from robustad.evaluation import BenchmarkRow
from robustad.training import Batch, CobraMethod, StepContext, TrainingConfig, make_fabric, recipe
from robustad.training.cobra import Views, frozen
from robustad.training.contrastive import block_labels, contrastive_loss, unit

BLOCKS = 2
_TOLERANCE = 0.02  # signed steps flip on rounding noise: images differ in some pixels, the loss hardly


def measure(*, quick: bool) -> list[BenchmarkRow]:
    """The literal step against ours, K = 2, ten attack steps; quick: a quarter of the width and of the batch."""
    width, batch_size = (16, 16) if quick else (64, 64)
    config = dataclasses.replace(recipe("cobra-published").training, batch_size=batch_size)
    exact = _method(width, config)
    images = torch.rand(batch_size, 3, 32, 32, generator=torch_generator(0, "benchmark"))
    batch = Batch(images, torch.ones(batch_size, 32, 32, dtype=torch.bool), list(range(batch_size)))
    views = exact.views(batch, seed=0)
    _check_equal(exact, views, config)
    ours = _method(width, dataclasses.replace(config, precision="auto"))
    context = StepContext(10**6, 10**6, 0, make_fabric(ours.config))
    slow = StepContext(10**6, 10**6, 0, make_fabric(dataclasses.replace(config, precision="float32")))
    losses = [m.loss(m.network, batch, c).total.detach() for m, c in ((ours, context), (exact, slow))]
    torch.testing.assert_close(*losses, rtol=_TOLERANCE, atol=0)

    def step() -> None:
        ours.network.zero_grad()
        ours.loss(ours.network, batch, context).total.backward()

    def literal(weight_gradients: bool) -> None:
        exact.network.zero_grad()
        again = exact.views(batch, seed=0)
        attacked = _literal_attacks(exact, again, config, weight_gradients=weight_gradients)
        exact.network.zero_grad()
        exact.total(exact.network, again, attacked).total.backward()

    network = f"ResNet-18 of width {width}, batch {batch_size}, K=2, 10 attack steps"
    count, rows = operations(step), []
    for title, weights in (("literal", True), ("separate passes, pixel gradients only", False)):
        pair = alternate(lambda weights=weights: literal(weights), step, rounds=3)  # type: ignore[misc]
        share = share_of_peak(count, pair.ours, automatic())
        claim = f"cobra step: {network}, {title} against ours"
        rows.append(pair.row(claim, per=1, unit="updates/s", share_of_peak=share))
    return rows


def _method(width: int, config: TrainingConfig) -> CobraMethod:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return CobraMethod(Cobra(CobraConfig(width=width)).train(), config)


def _literal_attacks(
    method: CobraMethod, views: Views, config: TrainingConfig, *, weight_gradients: bool = True
) -> dict[str, Tensor]:
    """ATPT, ATNT, RTP one after the other, from the starts that ours would draw in step 10**6."""
    network, epsilon = method.network, config.epsilon
    generator = torch_generator(config.seed, "attack", 10**6)
    torch.randint(1, (1,), generator=generator)  # the cyclic shift, which is 1 for two blocks
    clean = torch.cat([views.first, views.second, views.second])
    starts = (torch.rand(clean.shape, generator=generator) * 2 - 1).chunk(3)
    swapped = views.second.roll(len(views.second) // BLOCKS, 0)
    labels = block_labels(len(views.first), BLOCKS)

    def contrast(x: Tensor, target: Tensor) -> Tensor:
        rows = unit(network.features(torch.cat([x, target])).projections)
        return contrastive_loss(rows, groups=2, detach_columns=True)

    objectives = {
        "positive": lambda x: contrast(x, views.second),
        "opposite": lambda x: -contrast(x, swapped),
        "class": lambda x: F.cross_entropy(network.features(x).logits, labels),
    }
    found = {}
    network.eval()
    for start, origin, (name, objective) in zip(starts, clean.chunk(3), objectives.items(), strict=True):
        x = (origin + epsilon * start).clamp(0, 1)
        for _ in range(config.attack_steps):
            x = x.detach().requires_grad_(True)
            if weight_gradients:
                objective(x).backward()
                assert x.grad is not None
                gradient = x.grad
            else:
                (gradient,) = torch.autograd.grad(objective(x), x)
            moved = x.detach() + 2.5 * epsilon / config.attack_steps * gradient.sign()
            x = (origin + (moved - origin).clamp(-epsilon, epsilon)).clamp(0, 1)
        found[name] = x.detach()
    network.train()
    return found


def _check_equal(method: CobraMethod, views: Views, config: TrainingConfig) -> None:
    """Same loss of the attacked images: otherwise there is nothing to compare."""
    literal = _literal_attacks(method, views, config)
    shared = method.attacked(views, config.epsilon, 10**6)
    with torch.no_grad(), frozen(method.network):
        losses = [float(method.total(method.network, views, attacked).total) for attacked in (literal, shared)]
    if abs(losses[0] - losses[1]) > _TOLERANCE * abs(losses[0]):
        raise RuntimeError(f"the two steps differ: loss {losses[0]:.4f} of the literal one, {losses[1]:.4f} of ours")
