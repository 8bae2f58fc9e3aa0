"""Whether training and attacks follow their network to another device, and never wait for it on their way.

Tensors on `meta` have a device and no values: who reads one fails, and `OneDevice` fails who mixes it with another.
Only autocast, which `meta` has none of, is taken out.
"""

from __future__ import annotations

import traceback
from contextlib import nullcontext

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from robustad._devices import device_of, to_device
from robustad.attacks import APGD, FGSM, PGD, MomentumPGD, ScoreObjective
from robustad.attacks.base import Best, Climb
from robustad.attacks.projections import Ball
from robustad.detectors import Cobra, CobraConfig, PatchGuard, PatchGuardConfig
from robustad.ops.transforms import TRANSFORMS
from robustad.synthesis import LikelihoodFilter, PseudoAnomalies
from robustad.training import (
    Batch,
    CobraLossConfig,
    CobraMethod,
    DefaultMethod,
    PublishedMethod,
    ReplayMethod,
    StepContext,
    TrainingConfig,
    make_fabric,
)

SIZE, EPSILON = 32, 4 / 255
META = torch.device("meta")
PATCHGUARD = {"default": DefaultMethod, "published": PublishedMethod, "replay": ReplayMethod}


class OneDevice(TorchDispatchMode):
    """Operations on tensors of two devices fail, as with a GPU; numbers of no dimension may come from memory."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
        devices = {tensor.device.type for tensor in tensors if tensor.ndim or tensor.device == META}
        if len(devices) > 1 and func is not torch.ops.aten.copy_.default:
            raise RuntimeError(f"{func} on several devices: {devices}")
        return func(*args, **(kwargs or {}))


@pytest.fixture(autouse=True)
def as_on_a_gpu(monkeypatch):
    monkeypatch.setattr(torch, "autocast", lambda *_args, **_options: nullcontext())
    monkeypatch.setattr(torch, "is_autocast_enabled", lambda *_args: False)
    with OneDevice():
        yield


def patchguard():
    model = PatchGuardConfig(image_size=SIZE, backbone="vit_reference", attention_layers=(1, 2))
    return PatchGuard(model).to(META)


def batch(count=2):
    images = torch.rand(count, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
    return Batch(images, torch.ones(count, SIZE, SIZE, dtype=torch.bool), list(range(count)), list(range(count)))


def context(config):
    fabric = make_fabric(config)
    fabric.autocast = nullcontext
    return StepContext(3, 8, 0, fabric)


class Sent(TorchDispatchMode):
    """Values that go to the device otherwise than by `to_device` fail: from memory that is not pinned, a GPU waits."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        leaves = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor) and leaf.ndim]
        to_gpu = kwargs.get("device") == META or any(leaf.device == META for leaf in leaves)
        if to_gpu and any(leaf.device.type == "cpu" for leaf in leaves):
            frames = [frame.name for frame in traceback.extract_stack()]
            assert to_device.__name__ in frames, f"{func} takes values to the device itself"
        return func(*args, **kwargs)


@pytest.mark.parametrize("kind", PATCHGUARD)
def test_a_step_of_patchguard_makes_its_images_in_memory_and_goes_on_where_the_network_is(kind):
    config = TrainingConfig(max_steps=8, epsilon=EPSILON, replays=4 if kind == "replay" else 1, precision="float32")
    network, made = patchguard(), []

    def generator(images, foreground, *, seeds):
        made.append((images.device.type, foreground.device.type))
        return PseudoAnomalies()(images, foreground, seeds=seeds)

    method = PATCHGUARD[kind](network, config, generator)
    for _ in range(2):
        with Sent():
            losses = method.loss(network, batch(), context(config)).backward()
            method.after_backward()
        assert losses.total.device == META
    assert set(made) == {("cpu", "cpu")}
    gradients = [parameter.grad for parameter in network.parameters() if parameter.grad is not None]
    assert gradients and all(gradient.device == META for gradient in gradients)


@pytest.mark.parametrize("attack", [FGSM(), PGD(steps=3), MomentumPGD(steps=3), APGD(steps=8)], ids=lambda a: a.name)
@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_the_inner_loop_of_an_attack_reads_no_value(attack, norm):
    network = patchguard().eval()
    images, labels = torch.rand(4, 3, SIZE, SIZE, device=META), torch.zeros(4, dtype=torch.bool, device=META)
    objective = ScoreObjective(lambda x: network(x).scores, labels)
    best = Best(images.clone(), torch.zeros(4, device=META))
    climb = Climb(objective, Ball(images, EPSILON, norm), best, torch.arange(4, device=META), images)
    assert attack.run(climb, torch.rand_like(images), 0).device == META


def test_who_takes_values_to_the_device_is_found_out():
    with Sent(), pytest.raises(AssertionError, match="to the device itself"):
        torch.ones(2).to(META)


def test_who_reads_a_value_is_found_out():
    with pytest.raises((RuntimeError, NotImplementedError)):
        bool(torch.zeros((), device=META) > 0)
    with pytest.raises(RuntimeError, match="device"):
        nn.functional.linear(torch.ones(2, 3, device=META), torch.ones(4, 3))


@pytest.mark.parametrize("adversary", ["released", "figure"])
def test_a_step_of_cobra_is_made_where_the_network_is(adversary):
    config = TrainingConfig(max_steps=8, epsilon=EPSILON, replays=1, precision="float32", augment=False)
    blocks = (dict.fromkeys(TRANSFORMS, 1.0),)
    network = Cobra(CobraConfig(image_size=SIZE, width=8, blocks=blocks)).to(META)
    method = CobraMethod(network, config, CobraLossConfig(adversary=adversary))
    with Sent():
        losses = method.loss(network, batch(8), context(config)).backward()
    assert losses.total.device == META
    assert all(parameter.grad.device == META for parameter in network.backbone.parameters())


def test_values_go_to_a_device_and_a_device_is_found(monkeypatch):
    values = torch.arange(3.0)
    assert to_device(values, torch.device("cpu")) is values
    assert to_device(values, META).device == META
    assert device_of(nn.Linear(1, 1).to(META)) == META and device_of(len) == torch.device("cpu")
    sent = []

    class Watched:  # there is no such device here
        device = torch.device("cpu")

        def pin_memory(self):
            sent.append("pinned")
            return self

        def to(self, device, **options):
            sent.append((device.type, options))

    to_device(Watched(), torch.device("cuda"))
    assert sent == ["pinned", ("cuda", {"non_blocking": True})]
    sent.clear()
    to_device(Watched(), META)
    assert sent == [("meta", {})]


def test_cobra_remembers_images_where_its_network_is(monkeypatch):
    detector = Cobra(CobraConfig(image_size=SIZE, width=2)).to(META)
    seen = []
    monkeypatch.setattr(detector, "mean_features", lambda images: seen.append(images.device) or 1 / 0)
    with pytest.raises(ZeroDivisionError):
        detector.complete([torch.rand(2, 3, SIZE, SIZE)])
    assert seen == [META]


def test_the_likelihood_filter_computes_where_it_was_fitted():
    normals = torch.rand(12, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
    made = LikelihoodFilter(normals, share=0.1, features=lambda x: x.mean(dim=(2, 3)))
    made.gaussian = type(made.gaussian)(*(part.to(META) for part in made.gaussian))
    seen = []
    made.features = lambda images: seen.append(images.device) or 1 / 0
    with pytest.raises(ZeroDivisionError):
        made.surprise(normals[:3])
    assert seen == [META]
