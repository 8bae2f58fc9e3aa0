"""APGD against a third implementation: ART's, which was written from the paper."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from crosscheck_doubles import CASES, EPSILON, case

from robustad.adapters import as_classifier
from robustad.attacks import APGD

evasion = pytest.importorskip("art.attacks.evasion")
estimators = pytest.importorskip("art.estimators.classification")


def theirs(target, norm, steps, seed):
    """ART keeps an attacked image only if it crosses the threshold: here each image has its own, just beside it."""
    with torch.no_grad():
        scores = target.detector(target.images).scores
    beside = scores + torch.where(target.labels, -1e-4, 1e-4)
    view = nn_float32(as_classifier(target.detector, beside))
    classifier = estimators.PyTorchClassifier(
        view, torch.nn.CrossEntropyLoss(), (3, 16, 16), 2, clip_values=(0.0, 1.0), device_type="cpu"
    )
    radius = EPSILON[norm]
    attack = evasion.AutoProjectedGradientDescent(
        classifier,
        norm={"linf": np.inf, "l2": 2}[norm],
        eps=radius,
        eps_step=2 * radius,
        max_iter=steps,
        nb_random_init=1,
        loss_type="cross_entropy",
        verbose=False,
    )
    state = np.random.get_state()
    np.random.seed(seed)
    found = attack.generate(target.images.numpy().astype(np.float32), target.labels.numpy().astype(int))
    np.random.set_state(state)
    return torch.from_numpy(found).to(torch.float64)


def nn_float32(view):
    """ART passes float32; the network computes in float64."""

    class View(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.view = view

        def forward(self, images):
            return self.view(images.double()).float()

    return View()


@pytest.mark.parametrize("norm", EPSILON)
@pytest.mark.parametrize("name", CASES)
def test_apgd_is_at_least_as_strong(name, norm):
    target = case(name)
    ours = APGD(norm=norm, steps=30)(target.objective, target.images, epsilon=EPSILON[norm])
    found = torch.stack([target.gains(theirs(target, norm, 30, seed)) for seed in range(3)])
    assert target.gains(ours).mean() > 0.995 * found.mean() > 0
