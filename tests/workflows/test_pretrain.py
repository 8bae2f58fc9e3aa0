"""Pretraining through the workflow: exact resume, the file, and a fit that starts from it."""

from __future__ import annotations

import dataclasses
import json

import pytest
import torch
from safetensors.torch import load_file

from robustad.backbones import start_facts
from robustad.detectors import PatchGuard, PatchGuardConfig
from robustad.errors import CheckpointError
from robustad.training import RECIPES, SceneTasks, TaskDetector, TaskLook, TrainingConfig
from robustad.types import Prediction
from robustad.workflows import pretrain as workflow
from robustad.workflows.pretrain import PretrainConfig, pretrain, resume_pretrain_config

SIZE = 64


def small(**training):
    options = {"max_steps": 6, "batch_size": 4, "look_every": 1.0, "look_images": 1, "replays": 4, "augment": False}
    return PretrainConfig(
        model=PatchGuardConfig(image_size=SIZE, discriminator_hidden=32),
        training=TrainingConfig(**{**options, **training}),
        references=3,
        tests=2,
        processes=20,
    )


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return pretrain(small(), tmp_path_factory.mktemp("pretrain") / "run")


def test_the_file_holds_weights_and_says_how_they_were_made(made):
    tensors, facts = load_file(made.weights), start_facts(made.weights)
    assert made.steps == 6 and 0 < made.scene_share < 1 and "look_attacked_AUROC" in made.figures
    assert made.weights.stat().st_size <= 20e6
    assert facts == json.loads(made.weights.with_suffix(".json").read_text())
    assert facts["config"]["training"]["max_steps"] == 6 and facts["look"]["step"] == 6
    assert {name.split(".")[0] for name in tensors} == {"features", "discriminator"}
    assert not any("references" in name for name in tensors)
    assert resume_pretrain_config(made.weights.parent) == small()


def test_an_interrupted_run_resumes_to_the_same_weights(made, tmp_path, monkeypatch):
    step, calls = workflow.Engine._step, []

    def interrupted(self, batch):
        calls.append(batch.seeds)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return step(self, batch)

    monkeypatch.setattr(workflow.Engine, "_step", interrupted)
    with pytest.raises(KeyboardInterrupt):
        pretrain(small(), tmp_path / "broken")
    assert calls[0] == calls[1] == calls[2], "replays of one batch"
    monkeypatch.undo()
    with pytest.raises(CheckpointError, match="already holds a run"):
        pretrain(small(), tmp_path / "broken")
    resumed = pretrain(resume_pretrain_config(tmp_path / "broken"), tmp_path / "broken", resume=True)
    wanted, found = load_file(made.weights), load_file(resumed.weights)
    assert wanted.keys() == found.keys()
    assert all(torch.equal(wanted[name], found[name]) for name in wanted), "also in the middle of a replay"


@pytest.mark.parametrize("size", [SIZE, 96])
def test_a_detector_starts_from_it_at_any_size(made, size):
    config = PatchGuardConfig(image_size=size, discriminator_hidden=32, weights=str(made.weights))
    detector, tensors = PatchGuard(config), load_file(made.weights)
    state = detector.state_dict()
    tables = {"features.vit.pos_embed", "discriminator.positions"} if size != SIZE else set()
    for name in tensors.keys() - tables:
        assert torch.equal(state[name], tensors[name]), name
    for name in tables:
        assert state[name].mean() == pytest.approx(tensors[name].mean().item(), abs=2e-3)
        assert state[name].shape != tensors[name].shape
    assert torch.isfinite(detector(torch.rand(2, 3, size, size)).scores).all()


@pytest.mark.parametrize(("epsilon", "attacked"), [(0.01, 1.0), (1.0, 0.0)])
def test_a_look_at_tasks_attacks_normal_images_upwards_and_anomalies_downwards(epsilon, attacked):
    class Brightness(TaskDetector):
        def forward(self, images):
            return Prediction(images.mean(dim=(1, 2, 3)), None)

    def white(images, foreground, *, seeds):
        return torch.ones_like(images), foreground

    look = TaskLook(SceneTasks(2, SIZE, references=3, tests=2, seed=0), white, epsilon=epsilon)
    assert look(Brightness(small().model)) == {"look_AUROC": 1.0, "look_attacked_AUROC": attacked}


def test_a_recipe_keeps_the_images_own_normalisation(made):
    recipe = RECIPES["default"]()
    model = dataclasses.replace(recipe.model, weights=str(made.weights))
    images = 0.2 + 0.1 * torch.rand(4, 3, 8, 8)
    adapted = dataclasses.replace(recipe, model=model).model_for(images)
    assert adapted.mean == pytest.approx((0.25,) * 3, abs=0.03)


def test_what_does_not_fit_is_named(made):
    with pytest.raises(CheckpointError, match="does not fit this backbone"):
        PatchGuard(PatchGuardConfig(image_size=SIZE, backbone="vit_plain", weights=str(made.weights)))
    with pytest.raises(CheckpointError, match="does not fit this discriminator"):
        PatchGuard(PatchGuardConfig(image_size=SIZE, discriminator_hidden=16, weights=str(made.weights)))
    assert start_facts("none") is None and start_facts(made.weights.with_suffix(".json")) is None


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"training": {"batch_size": 5}}, "multiple of `tests`"),
        ({"training": {"replays": 1}}, "`replays`"),
        ({"training": {"augment": True}}, "`augment`"),
        ({"training": {"attack_steps": 5}}, "`attack_steps` does nothing"),
        ({"model": {"backbone": "hybrid"}}, "vit_reference"),
    ],
)
def test_options_that_do_not_fit_each_other(changes, text):
    config = small()
    parts = {part: dataclasses.replace(getattr(config, part), **new) for part, new in changes.items()}
    with pytest.raises(ValueError, match=text):
        dataclasses.replace(config, **parts)
