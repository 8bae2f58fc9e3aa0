"""The demo with every detector that can be trained, on made images: the same code, other rows of a table."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
from PIL import Image

from robustad.detectors import load_checkpoint
from robustad.errors import CheckpointError
from robustad.training import FIRST_RECIPES
from robustad.workflows import demo as module
from robustad.workflows._data import DataConfig
from robustad.workflows.demo import OPTIONS, DemoOptions, demo, demo_config
from robustad.workflows.fit import fit_config
from robustad.workflows.predict import PredictConfig, predict
from robustad.workflows.visualize import VisualizeConfig, visualize

SMALL = {
    "patchguard": {"image_size": 32, "backbone": "vit_plain", "top_k": 1},
    "cobra": {"image_size": 32, "backbone": "resnet18", "width": 2},
}


@pytest.fixture
def data(tmp_path, monkeypatch):
    """Forty normal images and twenty with a dark square instead of solar cells, and a test of one step."""
    rng = np.random.default_rng(0)
    (tmp_path / "masks").mkdir()
    for kind, count in (("normal", 40), ("anomalous", 20)):
        (tmp_path / kind).mkdir()
        for index in range(count):
            pixels = rng.integers(110, 150, (32, 32, 3)).astype(np.uint8)
            if kind == "anomalous":
                mask = np.zeros((32, 32), np.uint8)
                mask[8:20, 5:16] = 255
                pixels[mask > 0] //= 2
                Image.fromarray(mask).save(tmp_path / f"masks/{index:02}.png")
            Image.fromarray(pixels).save(tmp_path / kind / f"{index:02}.png")
    found = DataConfig(normal=tmp_path / "normal", anomalous=tmp_path / "anomalous", masks=tmp_path / "masks")
    quick = dataclasses.replace(module.TEST, epsilons=(4 / 255,), steps=1, strong_steps=1, max_images=8, health=False)
    monkeypatch.setattr(module, "DATA", found)
    monkeypatch.setattr(module, "TEST", quick)
    for name, row in OPTIONS.items():
        small = DemoOptions(model={**row.model, **SMALL[name]}, training={**row.training, "batch_size": 4})
        monkeypatch.setitem(OPTIONS, name, small)
    return found


def test_every_detector_that_can_be_trained_has_a_row():
    assert set(OPTIONS) == set(FIRST_RECIPES)
    for name, first in FIRST_RECIPES.items():
        config = demo_config(name)
        assert (config.recipe, config.detector_class.name, config.data) == (first, name, module.DATA)
    assert demo_config("patchguard") == dataclasses.replace(fit_config("default"), data=module.DATA)
    light, whole = demo_config("cobra").model, fit_config("cobra", "elpv").model
    assert light.image_size < whole.image_size and light.blocks == whole.blocks and light.backbone == whole.backbone
    with pytest.raises(ValueError, match=r"must be one of cobra, patchguard; got 'corba'; did you mean 'cobra'"):
        demo_config("corba")


@pytest.mark.parametrize("name", FIRST_RECIPES)
def test_train_test_and_report(data, tmp_path, name):
    result = demo(tmp_path / "run", detector=name, max_time=0.5, seed=3)
    detector = load_checkpoint(result.checkpoint).detector
    assert detector.name == name and {row.detector for row in result.test.rows} == {name, "brightness"}
    page = result.test.report.read_text()
    assert {"patchguard": "PatchGuard on", "cobra": "COBRA on"}[name] in page
    assert f"robustad demo --detector {name} --run-dir {tmp_path / 'run'} --seed 3 --max-time 0.5 --overwrite" in page
    assert ", chosen from " in page
    assert ("AUPRO" in {row.metric for row in result.test.rows}) == detector.has_maps
    with pytest.raises(CheckpointError, match="already holds a run; --overwrite replaces a demo"):
        demo(tmp_path / "run", detector=name, max_time=0.5)
    assert demo(tmp_path / "run", detector=name, max_time=0.5, overwrite=True).checkpoint == result.checkpoint


def test_a_trained_detector_without_maps_has_everything_but_maps(data, tmp_path):
    result = demo(tmp_path / "run", detector="cobra", max_time=0.5)
    rows = json.loads(result.test.results.read_text())["rows"]
    assert {row["metric"] for row in rows} == {"image_AUROC", "image_AUPR", "image_F1Max", "matched_AUROC"}
    assert {row["attack"] for row in rows if row["detector"] == "cobra"} == {"none", "pgd", "ensemble"}
    assert "the detector has no patch logits" in result.test.report.read_text()
    scored = predict(result.checkpoint, data.anomalous, tmp_path / "scores.csv")
    assert (scored.num_images, scored.num_failed, scored.map_range) == (20, 0, None)
    with pytest.raises(ValueError, match="a cobra detector gives no anomaly maps; leave `overlays` out"):
        predict(result.checkpoint, data.anomalous, tmp_path / "s.csv", config=PredictConfig(overlays=tmp_path / "maps"))
    assert not (tmp_path / "s.csv").exists() and not (tmp_path / "maps").exists()
    config = VisualizeConfig(epsilon=4 / 255, steps=2, label="anomalous")
    shown = visualize(result.checkpoint, data.anomalous / "00.png", tmp_path / "pictures", config=config)
    assert shown[0].error is None and shown[0].attacked_score < shown[0].score and shown[0].picture.is_file()


def test_overwriting_deletes_a_demo_and_nothing_else(data, tmp_path, monkeypatch):
    run = tmp_path / "run"
    demo(run, max_time=0.5)
    (run / "thesis.tex").write_text("mine")
    monkeypatch.setattr(module, "fit", lambda *_: (_ for _ in ()).throw(RuntimeError("stop")))
    with pytest.raises(RuntimeError, match="stop"):
        demo(run, max_time=0.5, overwrite=True)
    assert [path.name for path in run.iterdir()] == ["thesis.tex"]
    for content in ("{}", json.dumps(fit_config("default").to_dict()), "no JSON"):
        (run / "config.json").write_text(content)
        with pytest.raises(CheckpointError, match="something else than a demo"):
            demo(run, max_time=0.5, overwrite=True)
        assert {path.name for path in run.iterdir()} == {"thesis.tex", "config.json"}


def test_without_images_the_old_demo_stays(data, tmp_path, monkeypatch):
    run = tmp_path / "run"
    result = demo(run, max_time=0.5)
    data.normal.rename(tmp_path / "moved")
    with pytest.raises(ValueError, match="normal"):
        demo(run, max_time=0.5, overwrite=True)
    assert load_checkpoint(result.checkpoint).detector.name == "patchguard"
