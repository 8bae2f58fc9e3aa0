"""What `robustad test` can be given: our checkpoints, ONNX files, checkpoints of anomalib."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from robustad.cli import main
from robustad.errors import CheckpointError, MissingExtra
from robustad.evaluation import Results, select
from robustad.workflows._candidate import candidate_path, default_out, digest_of, load_candidate
from robustad.workflows._data import DataConfig
from robustad.workflows.benchmark import Matrix, benchmark
from robustad.workflows.test import test
from robustad.workflows.test_config import TestConfig

CPU = torch.device("cpu")
QUICK = TestConfig(epsilons=(16 / 255,), steps=1, strong_steps=1, restarts=1, queries=60)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Grey images, and anomalous ones with a dark square."""
    base = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)
    for kind, count in (("normal", 20), ("anomalous", 6)):
        (base / kind).mkdir()
        for index in range(count):
            pixels = rng.integers(120, 136, (16, 16, 3)).astype(np.uint8)
            if kind == "anomalous":
                pixels[index : index + 8, 4:12] -= 24
            Image.fromarray(pixels).save(base / kind / f"{index:02}.png")
    return base


@pytest.fixture(scope="module")
def data(folder):
    return DataConfig(normal=folder / "normal", anomalous=folder / "anomalous")


@pytest.fixture(scope="module")
def onnx_file(tmp_path_factory):
    pytest.importorskip("onnxruntime")
    onnx = pytest.importorskip("onnx")
    helper, kind = onnx.helper, onnx.TensorProto
    nodes = [
        helper.make_node("Sub", ["images", "half"], ["d"]),
        helper.make_node("Abs", ["d"], ["a"]),
        helper.make_node("ReduceMean", ["a", "colour"], ["anomaly_map"], keepdims=1),
        helper.make_node("ReduceMean", ["anomaly_map", "rest"], ["score"], keepdims=0),
    ]
    constants = [
        helper.make_tensor("half", kind.FLOAT, [], [0.5]),
        helper.make_tensor("colour", kind.INT64, [1], [1]),
        helper.make_tensor("rest", kind.INT64, [3], [1, 2, 3]),
    ]
    taken = [helper.make_tensor_value_info("images", kind.FLOAT, ["N", 3, 16, 16])]
    given = [helper.make_tensor_value_info(name, kind.FLOAT, None) for name in ("score", "anomaly_map")]
    graph = helper.make_graph(nodes, "contrast", taken, given, constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])
    model.ir_version = 9
    path = tmp_path_factory.mktemp("models") / "contrast.onnx"
    onnx.save(model, str(path))
    return path


def test_words_name_a_place(tmp_path):
    assert candidate_path("runs/a/checkpoint").as_posix() == "runs/a/checkpoint"
    assert candidate_path("anomalib:a/b.ckpt").as_posix() == "a/b.ckpt"
    assert candidate_path("anomalib:Patchcore=a/b.ckpt").as_posix() == "a/b.ckpt"
    assert default_out(tmp_path / "run" / "checkpoint") == tmp_path.resolve() / "run" / "test"
    assert default_out(tmp_path / "run" / "checkpoint" / "..") == tmp_path.resolve() / "run-test"
    assert default_out(tmp_path / "imported.v2") == tmp_path.resolve() / "imported.v2-test"
    assert default_out(tmp_path / "a.onnx") == tmp_path.resolve() / "a-test"
    assert default_out(f"anomalib:Padim={tmp_path}/model.ckpt") == tmp_path.resolve() / "model-test"


def test_files_of_lightning_have_signs_in_their_names(tmp_path, monkeypatch):
    assert candidate_path("anomalib:Patchcore=a/epoch=3-step=120.ckpt").as_posix() == "a/epoch=3-step=120.ckpt"
    assert candidate_path("anomalib:results/lr=0.1/model.ckpt").as_posix() == "results/lr=0.1/model.ckpt"
    monkeypatch.chdir(tmp_path)
    (tmp_path / "epoch=3.ckpt").touch()
    assert candidate_path("anomalib:epoch=3.ckpt").as_posix() == "epoch=3.ckpt"


@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
def test_a_file_of_a_checkpoint_is_the_checkpoint(checkpoints, tmp_path, name):
    shutil.copytree(checkpoints["calibrated"], tmp_path / "run/checkpoint")
    word = tmp_path / "run/checkpoint" / name
    assert candidate_path(word) == tmp_path / "run/checkpoint"
    assert digest_of(word) == digest_of(tmp_path / "run/checkpoint")
    assert default_out(word) == tmp_path.resolve() / "run/test"


def test_who_predicts_by_a_detector_from_elsewhere_is_told(tmp_path, capsys):
    (tmp_path / "a.onnx").touch()
    for word in (f"{tmp_path}/a.onnx", f"anomalib:{tmp_path}/a.ckpt"):
        assert main(["predict", word, str(tmp_path)]) == 1
        assert "a detector from elsewhere, which only `robustad test` and matrices take" in capsys.readouterr().err


def test_our_checkpoint_is_what_it_was(checkpoints):
    candidate = load_candidate(checkpoints["calibrated"], device=CPU)
    assert candidate.digest == digest_of(checkpoints["calibrated"])
    assert candidate.calibration.threshold == -0.5 and candidate.detector.name == "patchguard"


def test_other_options_make_another_detector_of_the_same_weights(checkpoints, tmp_path):
    copy = shutil.copytree(checkpoints["calibrated"], tmp_path / "copy")
    assert digest_of(copy) == digest_of(checkpoints["calibrated"])
    stored = json.loads((copy / "config.json").read_text())
    stored["config"]["sigma"] = 9.0
    (copy / "config.json").write_text(json.dumps(stored))
    assert digest_of(copy) != digest_of(checkpoints["calibrated"])


def test_weights_beside_an_onnx_model_count_whatever_they_are_called(tmp_path):
    model, weights = tmp_path / "m.onnx", tmp_path / "weights.bin"
    (tmp_path / "notes.txt").write_text("not named")
    model.write_bytes(b"..\x0a\x08location\x12\x0bweights.bin..")
    weights.write_bytes(b"1")
    first = digest_of(model)
    weights.write_bytes(b"2")
    second = digest_of(model)
    (tmp_path / "notes.txt").write_text("still not")
    assert first != second == digest_of(model)
    model.write_bytes(b"")
    assert digest_of(model) != second


def test_only_a_checkpoint_that_a_training_left_has_a_run(checkpoints, tmp_path):
    elsewhere = load_candidate(checkpoints["calibrated"], device=CPU)
    assert elsewhere.run_folder is None and elsewhere.title == "calibrated"
    trained = load_candidate(shutil.copytree(checkpoints["calibrated"], tmp_path / "run" / "checkpoint"), device=CPU)
    assert trained.run_folder == tmp_path.resolve() / "run" and trained.title == "run"


@pytest.mark.skipif(importlib.util.find_spec("anomalib") is not None, reason="anomalib is installed")
def test_without_anomalib_the_extra_is_named(tmp_path):
    (tmp_path / "model.ckpt").touch()
    with pytest.raises(MissingExtra, match=r'pip install "robustad\[anomalib\]"'):
        load_candidate(f"anomalib:{tmp_path}/model.ckpt", device=CPU)


def test_a_lightning_checkpoint_without_the_prefix_says_how(tmp_path):
    (tmp_path / "model.ckpt").touch()
    with pytest.raises(CheckpointError, match=r"one of anomalib is tested as anomalib:.*model\.ckpt"):
        load_candidate(tmp_path / "model.ckpt", device=CPU)


def test_an_onnx_file_is_tested_as_a_black_box(onnx_file, data, tmp_path):
    result = test(onnx_file, data, QUICK, tmp_path / "out")
    results = Results.read(result.results)
    own = select(result.rows, detector="contrast", metric="image_AUROC")
    assert {row.attack for row in own} == {"none", "square", "ensemble"} and {row.recipe for row in own} == {"onnx"}
    clean, attacked = (next(iter(select(own, attack=name))) for name in ("none", "square"))
    assert clean.value == 1.0 and attacked.value < clean.value
    skipped = results.details["attacks"]["adaptive-pgd"]["skipped"]
    assert skipped == {"score": "an ONNX model gives no gradient"}
    assert results.details["attacks"]["square"]["skipped"] == {}
    failed = [verdict.name for verdict in result.verdicts if verdict.passed is False]
    assert failed == ["Gradient is there"]
    page = result.report.read_text()
    assert "an ONNX model gives no gradient" in page and "black box only" in page
    assert len(results.details["checkpoint"]) == 64


def test_other_threats_are_searched_without_gradients(onnx_file, data, tmp_path, monkeypatch):
    monkeypatch.setattr("robustad.evaluation.threats.QUERIES", 5)
    monkeypatch.setattr("robustad.evaluation.threats.UNIVERSAL_QUERIES", 20)
    few = {"epsilons": (0.0,), "stickers": (0.5,), "universal": (16 / 255,), "max_images": 6, "health": False}
    rows = Results.read(test(onnx_file, data, dataclasses.replace(QUICK, **few), tmp_path).results).rows
    (sticker,), (universal,) = (select(rows, attack=name) for name in ("sticker", "universal"))
    assert sticker.value is not None and universal.value is not None


def test_a_file_that_leaves_the_size_open_is_told_it(onnx_file, folder, tmp_path, capsys):
    onnx = pytest.importorskip("onnx")
    model = onnx.load(str(onnx_file))
    for number in (2, 3):
        model.graph.input[0].type.tensor_type.shape.dim[number].dim_param = "S"
    onnx.save(model, str(tmp_path / "open.onnx"))
    words = [
        "test",
        str(tmp_path / "open.onnx"),
        "--normal",
        str(folder / "normal"),
        "--max-images",
        "4",
        "--no-health",
    ]
    words += ["--attacks", "square", "--queries", "2", "--epsilons", "16/255"]
    assert main(words) == 1 and "leaves the size of its images open; pass `image_size`" in capsys.readouterr().err
    assert main([*words, "--image-size", "24"]) == 0
    assert "24 x 24" in (tmp_path / "open-test" / "report.html").read_text()


def test_a_checkpoint_of_ours_knows_its_size(checkpoints):
    with pytest.raises(ValueError, match="is for detectors from elsewhere"):
        load_candidate(checkpoints["maps"], device=CPU, image_size=32)


def test_attacks_asked_for_by_name_are_replaced_too(onnx_file, folder, tmp_path, capsys):
    words = ["--normal", str(folder / "normal"), "--anomalous", str(folder / "anomalous"), "--epsilons", "16/255"]
    words += ["--attacks", "pgd", "--queries", "20", "--out", str(tmp_path / "out"), "--no-health"]
    assert main(["test", str(onnx_file), *words]) == 0
    printed = capsys.readouterr().out
    assert "square" in printed and "\npgd" not in printed


def test_an_onnx_file_stands_in_a_matrix(onnx_file, data, tmp_path):
    matrix = Matrix(detectors={"contrast": {"checkpoint": str(onnx_file)}}, data={"made": data}, test=QUICK)
    result = benchmark(matrix, tmp_path)
    assert not result.failed
    assert "contrast" in (tmp_path / "leaderboard.md").read_text()


def test_what_does_not_fit_is_one_line(onnx_file, checkpoints, data, tmp_path, capsys):
    assert main(["test", str(onnx_file)]) != 0
    assert "does not say what it was trained on" in capsys.readouterr().err
    assert main(["test", str(tmp_path / "missing.onnx"), "--normal", str(data.normal)]) != 0
    error = capsys.readouterr().err
    assert "no ONNX file" in error and error.count("\n") == 1
