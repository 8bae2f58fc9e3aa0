"""FGSM, momentum, APGD and Square against torchattacks on the two-logit view.

What an attack climbs there is cross-entropy, which is a monotone function of the score: APGD, which looks at signs
and order only, has to do the same. Where cross-entropy saturates in floating point, it cannot.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from crosscheck_doubles import CASES, EPSILON, THEIR_NORM, case
from torch import nn

from robustad.adapters import as_classifier
from robustad.attacks import APGD, FGSM, PGD, MomentumPGD, Square

torchattacks = pytest.importorskip("torchattacks")


@pytest.fixture
def double():
    """Torchattacks keeps its records in the default type; in float32 small rises go unseen."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def compare(ours, theirs, *, least):
    """Ours is no weaker than noise allows; a difference of the share ``least`` would be seen."""
    noise = 3 * ((ours.var() + theirs.var()) / len(ours)).sqrt()
    assert ours.mean() > theirs.mean() - noise, f"ours {ours.mean():.5f}, theirs {theirs.mean():.5f} +- {noise:.5f}"
    assert noise < least * theirs.mean(), f"{noise:.5f} is too much to say anything about {theirs.mean():.5f}"


def their_apgd(target, norm, steps, *, seed=0, scale=1.0, threshold=None):
    """The best iterate; its ordinary call gives the clean image back wherever the threshold was not crossed."""
    view = as_classifier(target.detector, target.threshold if threshold is None else threshold, scale=scale)
    attack = torchattacks.APGD(view, norm=THEIR_NORM[norm], eps=EPSILON[norm], steps=steps)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return attack.attack_single_run(target.images, target.labels.long())[0]


@pytest.mark.parametrize("name", CASES)
def test_fgsm(name):
    target, epsilon = case(name), EPSILON["linf"]
    ours = FGSM(keep="last")(target.objective, target.images, epsilon=epsilon)
    wanted = torchattacks.FGSM(as_classifier(target.detector, target.threshold), eps=epsilon)
    torch.testing.assert_close(ours, wanted(target.images, target.labels.long()), rtol=0, atol=1e-10)


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("decay", [1.0, 0.4])
def test_momentum(name, decay):
    target, epsilon = case(name), EPSILON["linf"]
    attack = MomentumPGD(steps=8, rel_stepsize=0.3, decay=decay, keep="last")
    ours = attack(target.objective, target.images, epsilon=epsilon)
    view = as_classifier(target.detector, target.threshold)
    wanted = torchattacks.MIFGSM(view, eps=epsilon, alpha=0.3 * epsilon, steps=8, decay=decay)
    torch.testing.assert_close(ours, wanted(target.images, target.labels.long()), rtol=0, atol=1e-10)


class Recorder(nn.Module):
    """Remembers where gradients were asked for."""

    def __init__(self, detector):
        super().__init__()
        self.detector, self.seen = detector, []

    def forward(self, images):
        if images.requires_grad:
            self.seen.append(images.detach().clone())
        return self.detector(images)


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize("norm", EPSILON)
@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("steps", [20, 50, 100])
def test_apgd_takes_the_same_way(name, norm, steps, monkeypatch):
    """Every iterate is equal past the first checkpoint, and nearly every image's all along.

    Their random start is led into the white corner, where clipping undoes it, so that both start at the clean image.
    Later on the two may part: after a step is halved, they count a rise from where they were, we from the best
    iterate that they, too, go back to; and values that are equal but for rounding fall either way.
    """
    target = case(name)
    ours, theirs = Recorder(target.detector), Recorder(target.detector)
    attack = APGD(norm=norm, steps=steps)
    ours_found = attack(replace(target, detector=ours).objective, target.images, epsilon=EPSILON[norm])
    corner = torch.zeros_like(target.images)
    corner[:, :, 0, 0] = 1
    monkeypatch.setattr(torch, "rand", lambda _: (corner + 1) / 2)
    monkeypatch.setattr(torch, "randn", lambda _: corner)
    theirs_found = their_apgd(replace(target, detector=theirs), norm, steps, scale=0.01)
    assert len(ours.seen) == len(theirs.seen) == steps + 1
    apart = torch.stack([(a - b).flatten(1).abs().amax(1) for a, b in zip(ours.seen, theirs.seen, strict=True)])
    second = sorted(attack.checkpoints())[1]
    assert apart[: second + 1].max() < 1e-9, "equal up to the second checkpoint"
    assert steps < 50 or (apart.amax(0) < 1e-9).double().mean() >= 0.5, "many images to the end"
    assert target.gains(ours_found).mean() > 0.997 * target.gains(theirs_found).mean() > 0


@pytest.mark.parametrize("norm", EPSILON)
@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("steps", [20, 50])
def test_apgd_is_as_strong_on_an_equal_objective(name, norm, steps):
    """Mean over images and seeds, random starts on both sides, up to three standard errors of their spread."""
    target = case(name)
    attack = APGD(norm=norm, steps=steps, random_start=True)
    ours, theirs = [], []
    for seed in range(8):
        attacked = attack(target.objective, target.images, epsilon=EPSILON[norm], generator=seeded(seed))
        ours.append(target.gains(attacked).mean())
        theirs.append(target.gains(their_apgd(target, norm, steps, seed=seed, scale=0.01)).mean())
    compare(torch.stack(ours), torch.stack(theirs), least=0.04)


@pytest.mark.parametrize("norm", EPSILON)
@pytest.mark.parametrize(("scale", "side"), [(100.0, 1.0), (1.0, 100.0)])
def test_apgd_on_scores_is_stronger_where_cross_entropy_saturates(norm, scale, side):
    """A steep view of a detector that is right, or a threshold far away: their loss is flat, the score is not.

    The images are those that lie on the right side of the threshold: wrong ones have no flat part.
    """
    whole = case("digits", 24)
    with torch.no_grad():
        right = (whole.detector(whole.images).scores > whole.threshold) == whole.labels
    for label in (False, True):
        some = right & (whole.labels == label)
        target = replace(whole, images=whole.images[some], labels=whole.labels[some])
        threshold = whole.threshold if side == 1 else side * (-1 if label else 1)
        ours = target.gains(APGD(norm=norm, steps=20)(target.objective, target.images, epsilon=EPSILON[norm]))
        theirs = target.gains(their_apgd(target, norm, 20, scale=scale, threshold=threshold))
        assert len(ours) > 3 and ours.mean() > 1.5 * theirs.mean()


def test_the_ordinary_call_of_theirs_leaves_images_alone_that_do_not_cross():
    """Why `attack_single_run` is compared: as a measure of a score, the call would flatter every detector."""
    target, labels = case("digits"), case("digits").labels.long()
    view = as_classifier(target.detector, 100.0)
    attacked = torchattacks.APGD(view, eps=EPSILON["linf"])(target.images, labels)
    assert torch.equal(attacked[labels == 0], target.images[labels == 0])
    ours = APGD(steps=10)(target.objective, target.images, epsilon=EPSILON["linf"])
    assert (target.gains(ours)[labels == 0] > 0).all()


def their_square(target, norm, queries, seed):
    """At equal queries, on the margin of a threshold that no image crosses: it would stop there."""
    far = torch.where(target.labels, -1e4, 1e4).to(target.images)
    attack = torchattacks.Square(
        as_classifier(target.detector, far), norm=THEIR_NORM[norm], eps=EPSILON[norm], n_queries=queries - 1
    )
    attack.init_hyperparam(target.images)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return attack.attack_single_run(target.images.clone(), target.labels.long())[1]


@pytest.mark.parametrize("norm", EPSILON)
@pytest.mark.parametrize("name", ["random", "digits"])
@pytest.mark.parametrize(("queries", "seeds"), [(100, 12), (300, 5)])
def test_square_is_within_noise_of_theirs(name, norm, queries, seeds):
    """Noise is the spread over seeds of both; three standard errors, which have to be small for it to say anything."""
    target = case(name, 8)
    attack = Square(norm=norm, queries=queries)
    ours, theirs = [], []
    for seed in range(seeds):
        attacked = attack(target.objective, target.images, epsilon=EPSILON[norm], generator=seeded(seed))
        ours.append(target.gains(attacked).mean())
        theirs.append(target.gains(their_square(target, norm, queries, seed)).mean())
    compare(torch.stack(ours), torch.stack(theirs), least=0.2)
    assert torch.stack(ours).mean() < 1.3 * torch.stack(theirs).mean(), "far stronger is as suspicious"


@pytest.mark.parametrize("norm", EPSILON)
def test_what_squares_find_gradients_find(norm):
    """The same for theirs: it does not beat our white box either."""
    target = case("digits", 8)
    white = target.gains(PGD(norm=norm, steps=40)(target.objective, target.images, epsilon=EPSILON[norm]))
    assert (target.gains(their_square(target, norm, 100, 0)) < white).all()
