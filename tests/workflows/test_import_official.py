import pytest
import torch

from robustad.detectors import PatchGuard, PatchGuardConfig, load_checkpoint
from robustad.errors import CheckpointError
from robustad.workflows import import_official as module
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
    checkpoint = load_checkpoint(import_official(path, tmp_path / "out"))
    images = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(checkpoint.detector(images).scores, detector(images).scores)
    assert checkpoint.info["imported_from"] == path.name and len(checkpoint.info["imported_sha256"]) == 64


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
