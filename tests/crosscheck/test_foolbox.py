"""PGD, FGSM and momentum against foolbox, whose loss is overridden by our objective: equal in float64.

Both project onto the ball and then clip to [0, 1]. Two things differ, and are evened out here: where a random start
lies (ours depends on the image, foolbox's on global state), and what momentum adds up (ours: gradients divided by
their mean size, as published; foolbox: signs, or directions of length 1).
"""

from __future__ import annotations

import pytest
import torch
from crosscheck_doubles import CASES, EPSILON, case

from robustad.adapters import as_classifier
from robustad.attacks import FGSM, PGD, MomentumPGD

foolbox = pytest.importorskip("foolbox")
ep = pytest.importorskip("eagerpy")
attacks = foolbox.attacks

KINDS = {
    "fgsm": {"linf": attacks.LinfFastGradientAttack, "l2": attacks.L2FastGradientAttack},
    "pgd": {"linf": attacks.LinfPGD, "l2": attacks.L2PGD},
    "momentum": {
        "linf": attacks.mi_fgsm.LinfMomentumIterativeFastGradientMethod,
        "l2": attacks.mi_fgsm.L2MomentumIterativeFastGradientMethod,
    },
}


def theirs(kind, norm, target, *, start=None, **options):
    """Foolbox's result; it maximises our objective, from ``start`` if there is one."""

    class Overridden(KINDS[kind][norm]):
        def get_loss_fn(self, model, labels):
            return lambda x: ep.astensor(target.objective(x.raw, torch.arange(len(x.raw))).sum())

        def get_random_start(self, x0, epsilon):
            return ep.astensor(start)

    if kind == "momentum":

        class Overridden(Overridden):  # type: ignore[no-redef]
            def normalize(self, gradients, *, x, bounds):
                return gradients / gradients.abs().mean(axis=(1, 2, 3), keepdims=True)

            def get_optimizer(self, x, stepsize):
                if norm == "l2":
                    return super().get_optimizer(x, stepsize)
                return attacks.mi_fgsm.GDMOptimizer(x, stepsize, self.momentum)

    model = foolbox.PyTorchModel(as_classifier(target.detector, 0.0).eval(), bounds=(0, 1), device="cpu")
    attack = Overridden(random_start=start is not None, **options)
    raw, clipped, _ = attack(model, target.images, target.labels.long(), epsilons=EPSILON[norm])
    torch.testing.assert_close(raw, clipped, rtol=0, atol=1e-12)
    return raw


def moved(attacked, target, norm):
    """Whether the attack did something that an error would show in."""
    return bool((attacked - target.images).abs().max() > EPSILON[norm] / 10) and bool(
        (target.gains(attacked) > 0).all()
    )


@pytest.mark.parametrize("norm", EPSILON)
@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize(("steps", "share"), [(10, None), (7, 0.3)])
def test_pgd(name, norm, steps, share):
    target = case(name)
    attack = PGD(norm=norm, steps=steps, rel_stepsize=share, keep="last")
    ours = attack(target.objective, target.images, epsilon=EPSILON[norm])
    wanted = theirs("pgd", norm, target, steps=steps, rel_stepsize=2.5 / steps if share is None else share)
    torch.testing.assert_close(ours, wanted, rtol=0, atol=1e-10)
    assert moved(ours, target, norm)


@pytest.mark.parametrize("norm", EPSILON)
@pytest.mark.parametrize("name", CASES)
def test_pgd_from_the_same_random_start(name, norm):
    target, seen = case(name), []

    def watched(x, index):
        if x.requires_grad:
            seen.append(x.detach().clone())
        return target.objective(x, index)

    attack = PGD(norm=norm, steps=5, keep="last", random_start=True)
    ours = attack(watched, target.images, epsilon=EPSILON[norm], generator=torch.Generator().manual_seed(1))
    assert (seen[0] - target.images).abs().max() > EPSILON[norm] / 100
    wanted = theirs("pgd", norm, target, start=seen[0], steps=5, rel_stepsize=0.5)
    torch.testing.assert_close(ours, wanted, rtol=0, atol=1e-10)


@pytest.mark.parametrize("norm", EPSILON)
@pytest.mark.parametrize("name", CASES)
def test_fgsm(name, norm):
    target = case(name)
    ours = FGSM(norm=norm, keep="last")(target.objective, target.images, epsilon=EPSILON[norm])
    torch.testing.assert_close(ours, theirs("fgsm", norm, target), rtol=0, atol=1e-10)
    assert moved(ours, target, norm)


@pytest.mark.parametrize("norm", EPSILON)
@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("decay", [1.0, 0.4])
def test_momentum(name, norm, decay):
    target = case(name)
    attack = MomentumPGD(norm=norm, steps=8, rel_stepsize=0.3, decay=decay, keep="last")
    ours = attack(target.objective, target.images, epsilon=EPSILON[norm])
    wanted = theirs("momentum", norm, target, steps=8, rel_stepsize=0.3, momentum=decay)
    torch.testing.assert_close(ours, wanted, rtol=0, atol=1e-10)
    assert moved(ours, target, norm)
