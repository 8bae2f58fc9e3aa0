import numpy as np
import pytest
import torch
from PIL import Image

from robustad.detectors import Cobra, CobraConfig, PatchGuard, PatchGuardConfig, load_checkpoint
from robustad.errors import CheckpointError
from robustad.inference import Predictor
from robustad.workflows import import_official as module
from robustad.workflows._data import DataConfig
from robustad.workflows.import_official import import_official


@pytest.fixture
def released(tmp_path, monkeypatch):
    """A file, and a loader that turns it into a tiny detector: the real conversion has its own conformance tests."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        detector = PatchGuard(PatchGuardConfig(image_size=32, backbone="vit_plain", top_k=1)).eval()
    monkeypatch.setattr(module, "load_official", lambda path, image_size: detector)
    path = tmp_path / "patchguard_mvtec_bottle.pth"
    path.write_bytes(b"weights")
    return path, detector


def test_the_checkpoint_scores_the_same_and_says_where_it_came_from(released, tmp_path):
    path, detector = released
    checkpoint = load_checkpoint(import_official(path, tmp_path / "out").checkpoint)
    images = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(checkpoint.detector(images).scores, detector(images).scores)
    assert checkpoint.info["imported_from"] == path.name and len(checkpoint.info["imported_sha256"]) == 64


@pytest.fixture
def without_memory(tmp_path, monkeypatch):
    """A file of a detector that compares with normal images, and a folder of these."""
    monkeypatch.setattr(module, "load_official", lambda path, image_size: Cobra(CobraConfig(width=2, views=2)).eval())
    path = tmp_path / "cobra.pth"
    path.write_bytes(b"weights")
    (tmp_path / "good").mkdir()
    random = np.random.default_rng(0)
    for number in range(21):
        Image.fromarray(random.integers(0, 255, (40, 40, 3), np.uint8)).save(tmp_path / f"good/{number:02}.png")
    return path


def test_normal_images_fill_the_memory_before_saving(without_memory, tmp_path):
    data = DataConfig(normal=tmp_path / "good")
    imported = import_official(without_memory, tmp_path / "out", data=data)
    assert imported.lacking == ""
    loaded = load_checkpoint(imported.checkpoint)
    assert loaded.detector.axes.shape == (2, 17, 128), "four fifths; the rest is for a test"
    assert loaded.info["data"] == data.to_dict() and loaded.info["seed"] == 0 and len(loaded.info["fingerprint"]) == 16
    scored = [image for batch in Predictor(imported.checkpoint).stream([tmp_path / "good/00.png"]) for image in batch]
    assert scored[0].error is None and np.isfinite(scored[0].score)


def test_without_normal_images_the_checkpoint_says_what_it_lacks(without_memory, tmp_path):
    imported = import_official(without_memory, tmp_path / "out")
    assert "has no memory of normal images yet" in imported.lacking and "--normal DIR" in imported.lacking
    with pytest.raises(CheckpointError, match=r"out: the cobra detector has no memory .*import-official FILE OUT"):
        Predictor(imported.checkpoint)
    load_checkpoint(imported.checkpoint).detector.remember([torch.rand(2, 3, 32, 32)])


def test_images_that_are_not_there_leave_nothing_behind(without_memory, tmp_path):
    for number in range(10):
        (tmp_path / f"good/{number:02}.png").write_bytes(b"no picture")
    for folder in ("good", "nowhere"):
        with pytest.raises(ValueError, match=r"0\d\.png|nowhere"):
            import_official(without_memory, tmp_path / "out", data=DataConfig(normal=tmp_path / folder))
    assert not (tmp_path / "out").exists()


def test_what_cannot_be_imported(released, tmp_path):
    with pytest.raises(CheckpointError, match="does not exist"):
        import_official(tmp_path / "none.pth", tmp_path / "out")
    (tmp_path / "full").mkdir()
    (tmp_path / "full/mine").touch()
    for used in (tmp_path / "full", released[0]):
        with pytest.raises(CheckpointError, match="not empty"):
            import_official(released[0], used)


def test_a_pickle_that_would_run_code_is_refused(tmp_path):
    class Bomb:
        def __reduce__(self):
            return (open, (str(tmp_path / "exploded"), "w"))

    torch.save({"a": Bomb()}, tmp_path / "bomb.pth")
    with pytest.raises(CheckpointError, match=r"bomb\.pth"):
        import_official(tmp_path / "bomb.pth", tmp_path / "out")
    assert not (tmp_path / "exploded").exists() and not (tmp_path / "out").exists()
