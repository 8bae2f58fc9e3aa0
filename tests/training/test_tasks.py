"""Tasks of procedural images: each image is judged by the normal images of its own task."""

from __future__ import annotations

import pytest
import torch
from lightning_fabric import Fabric

from robustad.backbones import ReferenceStem
from robustad.detectors import PatchGuard, PatchGuardConfig
from robustad.synthesis import PseudoAnomalies
from robustad.training import (
    Batch,
    SceneTasks,
    StepContext,
    TaskDetector,
    TaskLook,
    TaskMethod,
    TrainingConfig,
)

SIZE, TESTS, GROUPS = 64, 2, 3
CONTEXT = StepContext(0, 10, 0, Fabric(accelerator="cpu", devices=1, precision="32-true"))


def config(backbone="vit_reference"):
    return PatchGuardConfig(image_size=SIZE, backbone=backbone, discriminator_hidden=32)


def detector(backbone="vit_reference"):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return TaskDetector(config(backbone)).eval()


def tasks(number=10, **options):
    return SceneTasks(number, SIZE, **{"references": 5, "tests": TESTS, "seed": 1, **options})


def batch(made):
    items = [made[number] for number in range(GROUPS)]
    images = torch.stack([item["image"] for item in items]).float() / 255
    return Batch(images, torch.stack([item["foreground"] for item in items]), list(range(GROUPS)))


@pytest.mark.parametrize("backbone", ["vit_reference", "vit_plain", "vit_texture"])
def test_logits_are_those_of_a_detector_that_was_prepared_with_the_task(backbone):
    network, data = detector(backbone), batch(tasks())
    normals, images = data.images[:, :-TESTS], data.images[:, -TESTS:].flatten(0, 1)
    network.enter(normals, TESTS)
    twice = network.patch_logits(torch.cat([images, images.flip(3)])).detach()
    assert not any("stem" in name for name in network.state_dict()), "nothing of a task is part of the state"
    for group in range(GROUPS):
        mean, std = (getattr(normals[group], name)(dim=(0, 2, 3)).tolist() for name in ("mean", "std"))
        alone = PatchGuard(PatchGuardConfig(**{**config(backbone).to_dict(), "mean": tuple(mean), "std": tuple(std)}))
        left = alone.load_state_dict(network.state_dict(), strict=False)
        assert not left.unexpected_keys
        if backbone == "vit_reference":  # 512 references out of 5 images would repeat two of them more often
            alone.features.vit.patch_embed.stem = ReferenceStem(SIZE, pool=2, num_references=5)
        alone.eval().prepare(normals[group])
        own = slice(group * TESTS, (group + 1) * TESTS)
        torch.testing.assert_close(twice[own], alone.patch_logits(images[own]), rtol=1e-3, atol=1e-4)
        flipped = slice(GROUPS * TESTS + own.start, GROUPS * TESTS + own.stop)
        torch.testing.assert_close(twice[flipped], alone.patch_logits(images[own].flip(3)), rtol=1e-3, atol=1e-4)


def test_a_look_leaves_the_tasks_of_training_as_they_were():
    network, data = detector(), batch(tasks())
    network.enter(data.images[:, :-TESTS], TESTS)
    images = data.images[:, -TESTS:].flatten(0, 1)
    before = network.patch_logits(images)
    figures = TaskLook(tasks(2, tests=4), PseudoAnomalies(), epsilon=2 / 255, steps=2)(network)
    assert torch.equal(network.patch_logits(images), before)
    assert 0 <= figures["look_attacked_AUROC"] <= figures["look_AUROC"] <= 1


def test_tasks_are_made_from_seed_and_number():
    made, again = tasks(), tasks()
    first = again[4]["image"]
    assert torch.equal(first, made[4]["image"]) and first.dtype == torch.uint8 and len(first) == 5 + TESTS
    assert again.seconds > 0
    assert not torch.equal(first, tasks(seed=2)[4]["image"])
    assert not torch.equal(first, made[5]["image"])


def test_a_step_trains_on_tests_and_replays_its_perturbation():
    training = TrainingConfig(max_steps=10, replays=3, epsilon_warmup=0.0, augment=False)
    method = TaskMethod(detector().train(), training, PseudoAnomalies())
    data, losses = batch(tasks()), []
    for _ in range(3):
        loss = method.loss(method.network, data, CONTEXT).total
        loss.backward()
        method.after_backward()
        losses.append(loss.item())
    assert method._images.shape == (2 * GROUPS * TESTS, 3, SIZE, SIZE)
    assert method._offset.abs().max() <= training.epsilon + 1e-7
    assert losses[0] < losses[1] < losses[2], "weights stay, the perturbation climbs"
    assert method.carried()["offset"].shape == method._images.shape
