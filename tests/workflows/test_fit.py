"""Training through the workflow: run folder, config, resume, foregrounds, both recipes."""

from __future__ import annotations

import dataclasses
import itertools
import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional as F

from robustad.detectors import PatchGuardConfig, load_checkpoint
from robustad.errors import CheckpointError, ImageError, LayoutError
from robustad.training import Engine
from robustad.workflows import fit as workflow
from robustad.workflows._batches import stack
from robustad.workflows._data import DataConfig
from robustad.workflows._foreground import with_foreground
from robustad.workflows._run import claimed
from robustad.workflows.fit import FitConfig, fit, fit_config, resume_config


@pytest.fixture
def good(tmp_path):
    folder = tmp_path / "good"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for number in range(14):
        pixels = np.full((40, 40, 3), 40, np.uint8)
        pixels[8:32, 8:32] = 170 + rng.integers(0, 20, (24, 24, 1))
        Image.fromarray(pixels).save(folder / f"{number:02d}.png")
    return folder


def small(good, recipe="default", **training) -> FitConfig:
    config = fit_config(recipe)
    if recipe == "published":
        model = dataclasses.replace(
            config.model, image_size=32, backbone="test_vit", feature_layers=(6,), attention_layers=(2, 4, 6)
        )
    else:
        model = PatchGuardConfig(image_size=32, backbone="vit_reference", discriminator_hidden=32)
    options = {"max_steps": 6, "batch_size": 4, "look_every": 0.5, "max_time": None, "max_epochs": None, **training}
    return dataclasses.replace(
        config,
        data=DataConfig(data="folder", normal=good),
        model=model,
        training=dataclasses.replace(config.training, **options),
    )


def interrupted(config: FitConfig, run: Path, monkeypatch, *, at: int) -> Engine:
    """Train, and press Ctrl-C before a step of what is returned."""
    step = Engine._step

    def pressed(self, batch):
        if self.state.step == at:
            raise KeyboardInterrupt(self)
        return step(self, batch)

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt) as interruption:
        patched.setattr(Engine, "_step", pressed)
        fit(config, run)
    return interruption.value.args[0]


def weights(folder) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in load_checkpoint(folder).detector.parameters()])


def test_fit_writes_a_checkpoint_that_says_what_it_is(good, tmp_path):
    config = small(good)
    result = fit(config, tmp_path / "run")
    loaded = load_checkpoint(result.checkpoint)
    assert result.steps == 6 and set(result.figures) >= {"look_AUROC", "look_attacked_AUROC"}
    assert loaded.info["data"]["normal"] == str(good) and loaded.info["seed"] == 0
    assert loaded.detector.config.mean[0] == pytest.approx(0.4, abs=0.15), "normalised by the images' own mean"
    assert loaded.detector.features.vit.patch_embed.stem.references.abs().max() > 0, "references were kept"
    assert resume_config(tmp_path / "run") == config
    with torch.no_grad():
        assert loaded.detector(torch.rand(2, 3, 32, 32)).anomaly_maps.shape == (2, 32, 32)


def test_a_checkpoint_knows_its_images_from_any_working_directory(good, tmp_path, monkeypatch):
    monkeypatch.chdir(good.parent)
    config = small(good, max_steps=1, look_every=0.0)
    result = fit(dataclasses.replace(config, data=DataConfig(normal=Path(good.name))), tmp_path / "run")
    assert load_checkpoint(result.checkpoint).info["data"]["normal"] == str(good.absolute())
    assert result.testable is False


def test_nothing_can_fail_between_training_and_checkpoint_that_patchguard_does_not_need(good, tmp_path, monkeypatch):
    def fails(*_args, **_options):
        raise OSError("the disk is full")

    monkeypatch.setattr(workflow, "batches", fails)
    assert fit(small(good, max_steps=1, look_every=0.0), tmp_path / "run").checkpoint.is_dir()


@pytest.mark.parametrize("augment", [True, False])
def test_replays_augmentation_and_the_radius_of_looks_are_those_of_the_config(good, tmp_path, monkeypatch, augment):
    config = small(good, augment=augment, replays=3, epsilon=5 / 255)
    engine = interrupted(config, tmp_path / "run", monkeypatch, at=0)
    assert (engine.batches.augment, engine.look.epsilon) == (augment, 5 / 255)
    first, second, third, other = (batch.seeds for batch in itertools.islice(engine.batches.start_at(0), 4))
    assert first == second == third != other


def test_held_out_images_are_not_trained_on_and_references_know_which_images_they_are(good, tmp_path, monkeypatch):
    engine = interrupted(small(good), tmp_path / "run", monkeypatch, at=0)
    images, network = stack(engine.batches.dataset)[0], engine.method.network
    seen = torch.cat([images, engine.look.images[:1]])
    assert len(seen) == len(seen.unique(dim=0)) == 11, "four fifths of 14 images"
    (stem,) = network._reference_stems()
    pixels = F.avg_pool2d(network.normalise(images), stem.pool) * stem.pixel_std[:, None, None]
    torch.testing.assert_close(stem.references, pixels[stem.sources])


def test_an_interrupted_fit_resumes_to_the_same_weights(good, tmp_path, monkeypatch):
    config = small(good)
    whole = fit(config, tmp_path / "whole")
    interrupted(config, tmp_path / "broken", monkeypatch, at=3)
    with pytest.raises(CheckpointError, match="already holds a run"):
        fit(config, tmp_path / "broken")
    resumed = fit(resume_config(tmp_path / "broken"), tmp_path / "broken", resume=True)
    assert torch.equal(weights(whole.checkpoint), weights(resumed.checkpoint)), "also in the middle of a replay"


def test_a_run_goes_on_with_its_own_options_and_images_only(good, tmp_path, monkeypatch):
    config = small(good)
    interrupted(config, tmp_path / "run", monkeypatch, at=2)
    other = dataclasses.replace(config, pseudo=dataclasses.replace(config.pseudo, max_regions=2))
    with pytest.raises(CheckpointError, match="begun with other options: pseudo differ; start a new run"):
        fit(other, tmp_path / "run", resume=True)
    Image.fromarray(np.full((40, 40, 3), 120, np.uint8)).save(good / "new.png")
    with pytest.raises(CheckpointError, match="training images differ"):
        fit(config, tmp_path / "run", resume=True)
    (good / "new.png").unlink()
    monkeypatch.chdir(good.parent)
    relative = dataclasses.replace(config, data=DataConfig(normal=Path(good.name)))
    assert fit(relative, tmp_path / "run", resume=True).steps == 6


def test_cobra_takes_no_foreground(good):
    with pytest.raises(ValueError, match="COBRA's anomalies change all of an image: leave `foreground` 'cam' out"):
        dataclasses.replace(small_cobra(good), foreground="cam")


def test_the_global_random_state_is_left_alone(good, tmp_path):
    before = torch.random.get_rng_state()
    fit(small(good, max_steps=1, look_every=0.0), tmp_path / "run")
    assert torch.equal(before, torch.random.get_rng_state())


def test_the_published_recipe_trains(good, tmp_path):
    config = small(good, "published", max_steps=2, attack_steps=2, look_every=0.0)
    result = fit(config, tmp_path / "run")
    rows = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert result.steps == 2
    assert {"loss_normal", "loss_attacked", "loss_pseudo", "loss_attacked_pseudo"} <= set(rows[-1])


@pytest.mark.parametrize("replays", [1, 4])
def test_config_survives_json(good, replays):
    config = small(good, replays=replays)
    assert FitConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


def test_foregrounds_are_made_once_and_used(good, tmp_path):
    config = dataclasses.replace(small(good, max_steps=1, look_every=0.0), foreground="classical")
    fit(config, tmp_path / "run")
    made = sorted((tmp_path / "run" / "foreground" / "train" / "classical").glob("*.png"))
    assert made
    mask = np.asarray(Image.open(made[0])) > 127
    assert mask[20, 20] and not mask[1, 1]
    before = made[0].stat().st_mtime_ns
    samples = workflow.load_split(config.data).train
    again = with_foreground(samples, "classical", tmp_path / "run" / "foreground" / "train")
    assert again[0].foreground_path == made[0] and made[0].stat().st_mtime_ns == before
    assert with_foreground(samples, "none", tmp_path)[0].foreground_path is None
    os.utime(samples[0].path)
    changed = with_foreground(samples, "classical", tmp_path / "run" / "foreground" / "train")
    assert changed[0].foreground_path != made[0] and changed[1].foreground_path == again[1].foreground_path


def test_nothing_to_train_on_is_one_clear_error(tmp_path):
    with pytest.raises(ValueError, match="--normal DIR"):
        fit(dataclasses.replace(fit_config(), data=DataConfig()), tmp_path / "run")
    with pytest.raises(LayoutError):
        fit(dataclasses.replace(fit_config(), data=DataConfig(normal=tmp_path / "nowhere")), tmp_path / "run")
    assert not (tmp_path / "run").exists()
    with pytest.raises(CheckpointError, match="no run folder"):
        resume_config(tmp_path)


def test_images_of_a_few_grey_levels_are_not_trained_on(good, tmp_path):
    files = sorted(good.glob("*.png"))
    for path in files[:-4]:
        deep = np.asarray(Image.open(path).convert("L")).astype(np.uint16) * 16  # 12 bit
        Image.fromarray(deep).save(path)
    with pytest.raises(ValueError, match=r"nearly black: half of them have no value above 1[0-9] of 255; stretch"):
        fit(small(good), tmp_path / "run")
    assert not (tmp_path / "run").exists()
    Image.fromarray(np.full((40, 40), 65535, np.uint16)).save(files[0])
    for path in files[1:6]:
        Image.fromarray(np.asarray(Image.open(path)) * 16).save(path)
    assert fit(small(good, max_steps=1), tmp_path / "run").steps == 1


def test_an_error_before_training_leaves_the_folder_free(good, tmp_path):
    config, run = small(good, max_steps=1, look_every=0.0), tmp_path / "run"
    broken = sorted(good.glob("*.png"))[:7]
    whole = {path: path.read_bytes() for path in broken}
    for path in broken:
        path.write_bytes(b"no picture")
    with pytest.raises(ImageError, match=r"\.png"):
        fit(config, run)
    assert not run.exists()
    run.mkdir()
    (run / "notes.txt").touch()
    with pytest.raises(ImageError):
        fit(config, run)
    assert [path.name for path in run.iterdir()] == ["notes.txt"], "what was there before stays"
    for path, content in whole.items():
        path.write_bytes(content)
    assert fit(config, run).steps == 1


def test_an_error_while_the_first_step_is_set_up_leaves_nothing(good, tmp_path, monkeypatch):
    def fails(self, *_, **__):
        raise ValueError("options do not fit")

    monkeypatch.setattr(workflow, "Batches", fails)
    with pytest.raises(ValueError, match="do not fit"):
        fit(small(good), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_masks_outlive_an_error_before_training(good, tmp_path, monkeypatch):
    def fails(self, *_, **__):
        raise ValueError("options do not fit")

    config = dataclasses.replace(small(good), foreground="classical")
    with monkeypatch.context() as patched:
        patched.setattr(workflow, "Batches", fails)
        with pytest.raises(ValueError, match="do not fit"):
            fit(config, tmp_path / "run")
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["foreground"]
    assert fit(dataclasses.replace(config, training=small(good, max_steps=1).training), tmp_path / "run").steps == 1


def test_an_unknown_option_in_a_stored_config_is_named(good):
    values = small(good).to_dict()
    values["pseudo"]["shpaes"] = {}
    with pytest.raises(ValueError, match=r"'shpaes'.*known: .*shapes"):
        FitConfig.from_dict(values)


def small_cobra(good, **training) -> FitConfig:
    config = fit_config("cobra", "digits")
    return dataclasses.replace(
        config,
        data=DataConfig(normal=good),
        model=dataclasses.replace(config.model, width=4, views=2),
        training=dataclasses.replace(
            config.training, **{"max_steps": 2, "batch_size": 4, "attack_steps": 2, "precision": "float32", **training}
        ),
    )


def test_cobra_trains_and_its_memory_lies_in_the_checkpoint(good, tmp_path):
    one, two = (fit(small_cobra(good), tmp_path / name) for name in ("one", "two"))
    first, second = (load_checkpoint(result.checkpoint).detector for result in (one, two))
    assert first.name == "cobra" and first.axes.shape[:2] == (1, 11), "four fifths of 14 images"
    for key, value in first.state_dict().items():
        assert torch.equal(value, second.state_dict()[key]), f"{key} differs between two runs of one seed"
    images = torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    prediction = first(images)
    assert prediction.anomaly_maps is None and prediction.scores.isfinite().all()


@pytest.mark.parametrize(("count", "batch_size"), [(1, 4), (2, 1), (3, 64), (6, 4)])
@pytest.mark.parametrize("backbone", ["resnet18", "resnet18_imagenet"])
def test_cobra_trains_on_fewer_images_than_a_batch(good, tmp_path, count, batch_size, backbone):
    """Batch statistics need two rows: the blocks of one image are that many."""
    for path in sorted(good.glob("*.png"))[count:]:
        path.unlink()
    config = small_cobra(good, batch_size=batch_size, schedule="published")  # which keeps the rest of an epoch
    config = dataclasses.replace(config, model=dataclasses.replace(config.model, backbone=backbone))
    detector = load_checkpoint(fit(config, tmp_path / "run").checkpoint).detector
    assert detector.axes.shape[1] == {1: 1, 2: 1, 3: 2, 6: 5}[count]
    assert detector(torch.rand(2, 3, 32, 32)).scores.isfinite().all()


def test_cobra_resumes_exactly(good, tmp_path, monkeypatch):
    whole = fit(small_cobra(good, max_steps=4), tmp_path / "whole")
    config = small_cobra(good, max_steps=4)
    interrupted(config, tmp_path / "parts", monkeypatch, at=2)
    parts = fit(resume_config(tmp_path / "parts"), tmp_path / "parts", resume=True)
    first, second = (load_checkpoint(result.checkpoint).detector.state_dict() for result in (whole, parts))
    assert all(torch.equal(value, second[key]) for key, value in first.items())


def test_the_published_cobra_schedule_trains(good, tmp_path):
    config = dataclasses.replace(
        small_cobra(good, optimizer="lars", schedule="cobra", learning_rate=0.1), recipe="cobra"
    )
    assert fit(config, tmp_path / "run").steps == 2


def test_two_runs_do_not_share_a_folder(good, tmp_path):
    config = small(good)
    with claimed(tmp_path / "run", config, resume=False):
        with (
            pytest.raises(CheckpointError, match="already holds a run"),
            claimed(tmp_path / "run", config, resume=False),
        ):
            pass
        assert resume_config(tmp_path / "run") == config
    with pytest.raises(KeyboardInterrupt), claimed(tmp_path / "other", config, resume=False):
        raise KeyboardInterrupt
    assert not (tmp_path / "other").exists()


def test_a_run_that_was_killed_before_it_saved_begins_again(good, tmp_path):
    config = small(good)
    with claimed(tmp_path / "run", config, resume=False):
        pass
    resumed = fit(config, tmp_path / "run", resume=True)
    assert torch.equal(weights(resumed.checkpoint), weights(fit(config, tmp_path / "fresh").checkpoint))
    (tmp_path / "run" / "resume.pt").unlink()
    with pytest.raises(CheckpointError, match="its run has ended"):
        fit(config, tmp_path / "run", resume=True)
