"""Checkpoints: bit-equal round trips; whatever is wrong with a folder is one clear line; the old one survives."""

from __future__ import annotations

import errno
import json
import pickle
import shutil
from dataclasses import asdict

import pytest
import torch

from robustad.detectors import (
    DETECTORS,
    Brightness,
    BrightnessConfig,
    Cobra,
    CobraConfig,
    NearestNormal,
    NearestNormalConfig,
    PatchCore,
    PatchCoreConfig,
    PatchGuard,
    PatchGuardConfig,
    checkpoint,
    load_checkpoint,
    save_checkpoint,
)
from robustad.errors import CheckpointError
from robustad.types import Calibration

CALIBRATION = Calibration(threshold=0.25, max_false_alarm_rate=0.01, num_images=100, method="conformal")


def patchguard(seed=0, **options):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return PatchGuard(
            PatchGuardConfig(**{"image_size": 32, "backbone": "test_vit", "discriminator_hidden": 16, **options})
        ).eval()


def patchcore():
    detector = PatchCore(PatchCoreConfig(image_size=64, memory_size=20, stages=(2,)), load_weights=False).eval()
    return detector.fit([torch.rand(2, 3, 64, 64)], generator=torch.Generator().manual_seed(0))


MAKERS = {
    "patchguard": lambda: patchguard(feature_layers=(2, 3), mean=(0.1, 0.2, 0.3)),
    "brightness": lambda: Brightness(BrightnessConfig(image_size=16, two_sided=True, reference=0.3)).eval(),
    "patchcore": patchcore,
    "nearest": lambda: NearestNormal(NearestNormalConfig(image_size=16)).fit([torch.rand(3, 3, 16, 16)]).eval(),
    "cobra": lambda: Cobra(CobraConfig(width=2, views=2)).remember([torch.rand(3, 3, 32, 32)]).eval(),
}


@pytest.fixture
def folder(tmp_path):
    return save_checkpoint(tmp_path / "run", patchguard(), calibration=CALIBRATION, info={"data": "mtd", "steps": 3})


def change(folder, **values):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **values}))


def refusal(path):
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_there_is_a_round_trip_of_every_detector():
    assert set(MAKERS) >= set(DETECTORS)


@pytest.mark.parametrize("name", MAKERS)
def test_round_trip_is_bit_equal(tmp_path, name):
    detector = MAKERS[name]()
    save_checkpoint(tmp_path / "run", detector)
    restored = load_checkpoint(tmp_path / "run")
    assert type(restored.detector) is type(detector) and restored.detector.config == detector.config
    assert restored.calibration is None and restored.info == {} and restored.path == tmp_path / "run"
    assert not restored.detector.training
    saved, again = detector.state_dict(), restored.detector.state_dict()
    assert saved.keys() == again.keys() and all(torch.equal(saved[key], again[key]) for key in saved)
    images = torch.rand(2, 3, detector.image_size, detector.image_size)
    with torch.no_grad():
        first, second = detector(images), restored.detector(images)
    assert torch.equal(first.scores, second.scores)
    assert (first.anomaly_maps is None) == (not detector.has_maps)
    assert first.anomaly_maps is None or torch.equal(first.anomaly_maps, second.anomaly_maps)


def test_what_was_saved_beside_the_weights(folder):
    restored = load_checkpoint(folder)
    assert restored.calibration == CALIBRATION
    assert restored.info == {"data": "mtd", "steps": 3}
    assert sorted(path.name for path in folder.iterdir()) == ["config.json", "model.safetensors"]
    config = json.loads((folder / "config.json").read_text())
    assert config["format"] == 1 and config["detector"] == "patchguard"
    assert config["calibration"] == asdict(CALIBRATION)


def test_either_file_stands_for_the_folder(folder):
    for name in ("config.json", "model.safetensors"):
        assert load_checkpoint(str(folder / name)).path == folder


def test_loading_asks_no_one_for_weights(tmp_path, monkeypatch):
    """The backbone's starting weights may be gone by then."""
    weights = tmp_path / "start.pth"
    torch.save(patchguard().features.vit.state_dict(), weights)
    detector = patchguard(weights=str(weights))
    save_checkpoint(tmp_path / "run", detector)
    weights.unlink()
    assert load_checkpoint(tmp_path / "run").detector.config.weights == str(weights)


def test_the_global_generator_is_left_alone_by_saving(tmp_path):
    detector, before = patchguard(), torch.random.get_rng_state()
    save_checkpoint(tmp_path / "run", detector)
    assert torch.equal(before, torch.random.get_rng_state())


def test_damaged_weights(folder):
    path = folder / "model.safetensors"
    whole = path.read_bytes()
    for damaged in (whole[:-1], whole[:100], b"", whole[:-1] + bytes([whole[-1] ^ 1])):
        path.write_bytes(damaged)
        assert "does not belong to" in refusal(folder)


def test_swapped_files(folder, tmp_path):
    other = save_checkpoint(tmp_path / "other", patchguard(seed=1))
    shutil.copy(other / "model.safetensors", folder / "model.safetensors")
    assert "does not belong to" in refusal(folder)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("name", ["patchguard", "cobra"])
def test_a_tensor_that_is_not_finite_is_named(tmp_path, name, value):
    detector = MAKERS[name]()
    key, tensor = [(k, t) for k, t in detector.state_dict().items() if t.ndim > 1][-1]
    tensor.view(-1)[-1] = value
    path = save_checkpoint(tmp_path / "run", detector)
    text = refusal(path)
    assert f"{path / 'model.safetensors'}: tensor {key!r} holds NaN or infinite values" in text


def test_weights_that_fit_the_digest_but_not_the_config(folder):
    config = json.loads((folder / "config.json").read_text())["config"]
    change(folder, config={**config, "discriminator_hidden": 32})
    assert "size mismatch" in refusal(folder)
    change(folder, config={**config, "discriminator_layers": 2})
    assert "cannot be loaded by robustad" in refusal(folder)


def test_another_format(folder):
    change(folder, format=2, robustad="9.9")
    text = refusal(folder)
    assert "robustad 9.9 in checkpoint format 2" in text and "reads format 1" in text


def test_unknown_detector_and_unknown_option(folder):
    change(folder, detector="patchgard")
    assert "did you mean 'patchguard'" in refusal(folder)
    config = json.loads((folder / "config.json").read_text())["config"]
    change(folder, detector="patchguard", config={**config, "topk": 3})
    assert "unknown option 'topk'; known: " in refusal(folder) and "top_k" in refusal(folder)


@pytest.mark.parametrize(
    "values",
    [
        {"config": []},
        {"config": None},
        {"detector": 5},
        {"calibration": {"threshold": 1}},
        {"calibration": [1]},
        {"weights_sha256": None},
        {"config": {"backbone": "nope"}},
        {"config": {"backbone": "test_vit", "image_size": 0}},
        {"config": {"backbone": "test_vit", "image_size": 32, "discriminator_heads": 0}},
        {"config": {"backbone": "test_vit", "image_size": 32, "std": [1, 1]}},
        {"config": {"backbone": "test_vit", "image_size": 32, "std": [0, 0, 0]}},
    ],
    ids=str,
)
def test_odd_values(folder, values):
    change(folder, **values)
    assert str(folder) in refusal(folder)


@pytest.mark.parametrize("key", ["detector", "config", "weights_sha256"])
def test_a_config_without_a_key(folder, key):
    config = json.loads((folder / "config.json").read_text())
    del config[key]
    (folder / "config.json").write_text(json.dumps(config))
    assert f"lacks {key}" in refusal(folder)


@pytest.mark.parametrize(
    ("content", "text"),
    [(b"{", "is not JSON"), (b"\xff\xfe", "is not JSON"), (b"[1]", "is no robustad"), (b'{"a": 1}', "is no robustad")],
)
def test_a_config_that_is_none(folder, content, text):
    (folder / "config.json").write_bytes(content)
    assert text in refusal(folder)


@pytest.mark.parametrize("suffix", [".pth", ".pt", ".ckpt", ".pkl"])
def test_pickles_are_refused_unread(tmp_path, suffix):
    path = tmp_path / f"model{suffix}"
    path.write_bytes(pickle.dumps(1))
    assert "is a pickle" in refusal(path) and "import-official" in refusal(path)


def test_missing_things(folder):
    assert "no checkpoint folder" in refusal(folder.parent / "nowhere")
    assert f"did you mean {folder}?" in refusal(folder.parent)
    (folder / "model.safetensors").unlink()
    assert "it has no model.safetensors" in refusal(folder)


def scores(folder):
    with torch.no_grad():
        images = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
        return load_checkpoint(folder).detector(images).scores


@pytest.mark.parametrize("broken", ["save_file", "write_json"])
def test_a_full_disk_leaves_the_old_checkpoint(folder, monkeypatch, broken):
    before = scores(folder)

    def full(*_args, **_options):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(checkpoint, broken, full)
    with pytest.raises(OSError, match="No space left"):
        save_checkpoint(folder, patchguard(seed=1))
    assert torch.equal(scores(folder), before)
    assert sorted(path.name for path in folder.iterdir()) == ["config.json", "model.safetensors"]


def test_a_value_that_is_not_json_leaves_the_old_checkpoint(folder):
    before = scores(folder)
    with pytest.raises(ValueError, match="JSON"):
        save_checkpoint(folder, patchguard(seed=1), info={"auroc": float("nan")})
    assert torch.equal(scores(folder), before)


def test_a_kill_between_the_two_renames_is_noticed(folder, monkeypatch):
    """The one moment at which the pair does not match: refused, never mixed."""
    replace = checkpoint.Path.replace

    def killed(self, target):
        if target.name == "config.json" and self.parent == folder and "config.json.config" not in self.name:
            raise KeyboardInterrupt
        return replace(self, target)

    monkeypatch.setattr(checkpoint.Path, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        save_checkpoint(folder, patchguard(seed=1))
    monkeypatch.undo()
    assert "saving was interrupted" in refusal(folder)


def test_a_new_checkpoint_replaces_the_old_one(folder):
    before = scores(folder)
    save_checkpoint(folder, patchguard(seed=1))
    assert not torch.equal(scores(folder), before)
    assert load_checkpoint(folder).calibration is None
