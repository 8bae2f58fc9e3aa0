"""Where `robustad test` writes unless one says, and what its page says."""

import dataclasses
import json
import shutil

import pytest

from robustad.cli import main
from robustad.detectors import load_checkpoint, save_checkpoint
from robustad.evaluation import select
from robustad.reporting import Report
from robustad.workflows._data import DataConfig
from robustad.workflows._report import _sentences
from robustad.workflows.test import free_out, test
from robustad.workflows.test_config import TestConfig, settings

QUICK = TestConfig(attacks=("pgd",), steps=1, epsilons=(2 / 255,), health=False)


@pytest.fixture
def data(tmp_path, write_image):
    for kind, level in (("normal", 120), ("anomalous", 40)):
        for number in range(30):
            write_image(tmp_path / kind / f"{number}.png", level + number)
    return DataConfig(normal=tmp_path / "normal", anomalous=tmp_path / "anomalous")


@pytest.fixture
def checkpoint(checkpoints, data, tmp_path):
    info = {"data": data.to_dict(), "fingerprint": "of other images"}
    return save_checkpoint(tmp_path / "run/checkpoint", load_checkpoint(checkpoints["maps"]).detector, info=info)


def test_another_test_has_another_folder_and_the_same_one_its_own(checkpoint, data, tmp_path):
    first = free_out(checkpoint, None, QUICK)
    assert first == (tmp_path / "run/test").resolve()
    test(checkpoint, None, QUICK, first)
    assert free_out(checkpoint, None, QUICK) == first == free_out(checkpoint, data, QUICK)
    other = dataclasses.replace(QUICK, steps=2)
    second = free_out(checkpoint, None, other)
    assert second == first.with_name("test-2")
    test(checkpoint, None, other, second)
    assert free_out(checkpoint, None, other) == second and free_out(checkpoint, None, QUICK) == first
    elsewhere = dataclasses.replace(data, test_normal=data.normal)
    assert free_out(checkpoint, elsewhere, QUICK) == first.with_name("test-3")
    (first / "test-cache").mkdir()  # as an interrupted test leaves it
    (first / "test-cache/about.json").write_text(json.dumps([settings(other), data.to_dict()]))
    assert free_out(checkpoint, None, other) == first and free_out(checkpoint, None, QUICK) == first.with_name("test-3")
    shutil.rmtree(first / "test-cache")
    (first / "results.json").write_text("not ours")
    assert free_out(checkpoint, None, QUICK) == first.with_name("test-3")


def test_who_tests_on_other_normal_images_is_warned(checkpoint, data, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    words = ["--attacks", "pgd", "--steps", "1", "--epsilons", "2/255", "--no-health"]
    assert main(["test", str(checkpoint), *words]) == 0
    assert "are not those that the detector was trained on" in capsys.readouterr().err
    assert "all figures are too good" in (tmp_path / "run/test/report.html").read_text()
    assert json.loads((tmp_path / "run/test/results.json").read_text())["details"]["training_images_unchanged"] is False


def test_who_tests_what_somebody_else_trained_is_told_to_give_other_images(checkpoints, data, tmp_path):
    result = test(checkpoints["maps"], data, QUICK, tmp_path / "out")
    assert (
        "give others (for images of your own: --test-normal)" in result.caution
        and "--test-normal" in result.report.read_text()
    )
    given = DataConfig(normal=data.normal, anomalous=data.anomalous, test_normal=tmp_path / "more")
    shutil.copytree(data.normal, given.test_normal)
    assert test(checkpoints["maps"], given, QUICK, tmp_path / "other").caution == ""
    for name in ("normal", "anomalous"):
        shutil.copytree(getattr(data, name), tmp_path / "root" / name)
    root = DataConfig(root=tmp_path / "root")
    assert (
        "some of the normal ones were tested" in test(checkpoints["maps"], root, QUICK, tmp_path / "root-out").caution
    )
    shutil.copytree(data.normal, tmp_path / "root/test_normal")
    assert test(checkpoints["maps"], root, QUICK, tmp_path / "root-other").caution == ""


def test_figures_outlive_a_page_that_cannot_be_made(checkpoint, tmp_path, monkeypatch):
    def fails(*_args):
        raise RuntimeError("no fonts")

    monkeypatch.setattr("robustad.workflows.test.build_report", fails)
    with pytest.raises(RuntimeError, match="no fonts"):
        test(checkpoint, None, QUICK, tmp_path / "out")
    assert (
        json.loads((tmp_path / "out/results.json").read_text())["rows"] and not (tmp_path / "out/report.html").exists()
    )
    assert free_out(checkpoint, None, QUICK).name == "test"


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({}, "pgd is one attack, and no worst case of several for each image"),
        ({"attacks": ("ensemble",), "targets": "normal"}, "normal images alone were attacked"),
        ({"attacks": ("ensemble",), "where": "background"}, "attacks changed nothing but the background"),
        ({"attacks": ("ensemble",)}, ""),
    ],
)
def test_the_headline_knows_what_was_tried_and_its_lead(checkpoint, tmp_path, monkeypatch, changes, text):
    pages = []
    monkeypatch.setattr("robustad.workflows.test.write_report", lambda page, _path: pages.append(page))
    test(
        checkpoint, None, dataclasses.replace(QUICK, **{"strong_steps": 1, "restarts": 1, **changes}), tmp_path / "out"
    )
    headline = pages[0].headline
    assert headline.limits == text
    lead = headline.attacked - headline.baseline
    assert headline.lead[0] <= lead <= headline.lead[1]


def test_the_page_says_how_much_more_plain_pgd_would_have_claimed(checkpoint, tmp_path, monkeypatch):
    said = []
    plain = lambda findings, _results: said.extend(_sentences(findings)) or Report(title="plain")  # noqa: E731
    monkeypatch.setattr("robustad.workflows.test.build_report", plain)
    effort = {"epsilons": (0.5 / 255,), "strong_steps": 1, "restarts": 1}
    config = dataclasses.replace(QUICK, attacks=("pgd", "ensemble"), **effort)
    rows = test(checkpoint, None, config, tmp_path / "out").rows
    claimed, left = (select(rows, attack=name, metric="image_AUROC")[0].value for name in config.attacks)
    assert claimed > left + 0.03
    (sentence,) = (text for text in said if text.startswith("PGD-1 alone would have"))
    assert f"claimed {claimed:.3f} at" in sentence and f", {claimed - left:.3f} more than the worst" in sentence


def test_a_sticker_that_has_to_work_when_turned_is_called_so(checkpoints, data, tmp_path):
    few = {"attacks": ("pgd",), "epsilons": (8 / 255,), "steps": 1, "health": False, "stickers": (0.2,)}
    plain = test(checkpoints["maps"], data, TestConfig(**few), tmp_path / "a").report.read_text()
    turned = test(checkpoints["maps"], data, TestConfig(**few, sticker_draws=3), tmp_path / "b").report.read_text()
    assert "A sticker looks its worst at the worst of four places" in plain
    assert "its worst on average over 3 turns and brightnesses, and is scored as it is, at the worst" in turned


def test_l2_has_its_own_radii_and_says_so(checkpoints, data, tmp_path):
    result = test(
        checkpoints["maps"], data, TestConfig(attacks=("pgd",), steps=1, norm="l2", health=False), tmp_path / "l2"
    )
    attacked = [row for row in result.rows if row.attack == "pgd" and row.metric == "image_AUROC"]
    assert [(row.norm, row.epsilon) for row in attacked] == [("l2", 0.25), ("l2", 0.5), ("l2", 1.0)]
    page = result.report.read_text()
    assert "L2 at the network" in page and "--norm l2" in page
