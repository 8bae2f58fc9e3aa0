"""``robustad pretrain``: what reaches the workflow, and what is printed."""

from __future__ import annotations

import pytest

from robustad.cli import main
from robustad.workflows import pretrain as workflow
from robustad.workflows.pretrain import PretrainConfig, PretrainResult


@pytest.fixture
def given(monkeypatch):
    """What the workflow was called with."""
    calls = []

    def fake(config, run_dir, *, resume=False):
        calls.append((config, run_dir, resume))
        run_dir.mkdir(parents=True, exist_ok=True)
        (run_dir / "weights.safetensors").write_bytes(b"0" * 1_500_000)
        return PretrainResult(run_dir / "weights.safetensors", 7, 60.0, 0.08, {"look_AUROC": 0.75})

    monkeypatch.setattr(workflow, "pretrain", fake)
    return calls


def test_flags_reach_the_config_and_the_share_of_images_is_printed(given, tmp_path, capsys):
    words = ["--run-dir", str(tmp_path / "run"), "--max-time", "2h", "--epsilon", "4/255", "--backbone", "vit_plain"]
    assert main(["pretrain", *words, "--references", "9"]) == 0
    config, folder, resume = given[0]
    assert config.training.max_time == 7200 and config.training.epsilon == pytest.approx(4 / 255)
    assert config.model.backbone == "vit_plain" and config.references == 9
    assert folder == tmp_path / "run" and not resume
    printed = capsys.readouterr().out
    assert "(1.5 MB)" in printed and "8 %" in printed and "--model.weights" in printed


def test_without_options_the_defaults_are_the_dataclass(given, tmp_path):
    assert main(["pretrain", "--run-dir", str(tmp_path / "run")]) == 0
    assert given[0][0] == PretrainConfig()


def test_resuming_takes_its_options_from_the_folder(given, tmp_path, capsys):
    assert main(["pretrain", "--resume", "--run-dir", str(tmp_path), "--max-time", "1h"]) == 2
    assert "leave out --max-time" in capsys.readouterr().err
    assert main(["pretrain", "--resume", "--run-dir", str(tmp_path)]) == 1
    assert "no run folder" in capsys.readouterr().err and not given
