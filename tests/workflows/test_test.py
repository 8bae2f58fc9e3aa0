import contextlib
import dataclasses
import json
import shlex

import numpy as np
import pytest
import torch
from PIL import Image

from robustad.detectors import load_checkpoint, save_checkpoint
from robustad.errors import CheckpointError, LayoutError
from robustad.evaluation import Results, Store, ThreatConfig, Verdict, evaluate_certified, select
from robustad.evaluation.health import COMPANY
from robustad.reporting import Report
from robustad.workflows._candidate import load_candidate
from robustad.workflows._data import DataConfig
from robustad.workflows.test import _once, console_table, test
from robustad.workflows.test_config import TestConfig

QUICK = TestConfig(epsilons=(8 / 255,), steps=1, strong_steps=1, restarts=1, health=False)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Forty normal images and twelve with a dark square; the first anomalous one has no mask."""
    base = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)
    for kind, count in (("masks", 0), ("normal", 40), ("anomalous", 12)):
        (base / kind).mkdir()
        for index in range(count):
            pixels = rng.integers(110, 150, (32, 32, 3)).astype(np.uint8)
            if kind == "anomalous":
                mask = np.zeros((32, 32), np.uint8)
                mask[4 + index : 14 + index, 5:16] = 255
                pixels[mask > 0] //= 2
                if index:
                    Image.fromarray(mask).save(base / "masks" / f"{index:02}.png")
            Image.fromarray(pixels).save(base / kind / f"{index:02}.png")
    return base


@pytest.fixture(scope="module")
def data(folder):
    return DataConfig(normal=folder / "normal", anomalous=folder / "anomalous", masks=folder / "masks")


@pytest.fixture(scope="module")
def tested(checkpoints, data, tmp_path_factory):
    out = tmp_path_factory.mktemp("tested") / "out"
    return test(checkpoints["calibrated"], data, TestConfig(epsilons=(4 / 255, 8 / 255), steps=1, strong_steps=1), out)


@pytest.fixture
def plain_report(monkeypatch):
    """For tests that look at the figures only: drawing takes longer than measuring."""
    monkeypatch.setattr("robustad.workflows.test.build_report", lambda findings, results: Report(title="plain"))


def test_writes_results_and_report(tested, folder):
    results = Results.read(tested.results)
    assert list(results.rows) == tested.rows
    assert results.details["num_anomalous"] == 12 and results.details["num_normal"] == 8
    assert results.details["num_with_mask"] == 11
    assert [check["name"] for check in results.details["health"]] == [verdict.name for verdict in tested.verdicts]
    page = tested.report.read_text()
    for text in (
        "PatchGuard on folder",
        "ensemble",
        "map-pgd",
        "brightness, exact",
        "Health checks",
        "anomalous/",
        "AUPRO",
    ):
        assert text in page, text
    assert "not calibrated" not in page
    assert sorted(path.name for path in tested.report.parent.iterdir()) == ["report.html", "results.json"]


def test_rows_cover_every_attack_radius_and_metric(tested):
    attacked = select(tested.rows, detector="patchguard", epsilon=8 / 255)
    assert {row.attack for row in attacked} == {"published-pgd", "pgd", "adaptive-pgd", "ensemble", "map-pgd"}
    assert all(row.value is not None for row in attacked if row.metric != "matched_AUROC")
    values = {row.attack: row.value for row in attacked if row.metric == "image_AUROC"}
    assert values["ensemble"] == min(values.values())
    (pixel,) = select(tested.rows, detector="patchguard", attack="map-pgd", epsilon=8 / 255, metric="pixel_AUROC")
    (clean,) = select(tested.rows, detector="patchguard", attack="none", metric="pixel_AUROC")
    assert pixel.value < clean.value
    assert {row.data for row in tested.rows} == {"folder"} and {row.split for row in tested.rows} == {"all"}


def test_console_table_has_a_line_per_attack(tested):
    from rich.console import Console

    console = Console(width=140, record=True, file=open("/dev/null", "w"))  # noqa: PTH123, SIM115
    console.print(console_table(tested.rows))
    console.file.close()
    text = console.export_text()
    assert "ensemble" in text and "8/255" in text and "brightness, exact" in text and "clean" in text


def test_a_detector_without_maps_gets_a_report_without_maps(checkpoints, data, tmp_path):
    result = test(checkpoints["brightness"], data, QUICK, tmp_path)
    assert {row.metric for row in result.rows} == {"image_AUROC", "image_AUPR", "image_F1Max", "matched_AUROC"}
    assert {row.detector for row in result.rows} == {"brightness"}
    page = result.report.read_text()
    assert "the detector has no patch logits" in page and "map under attack" not in page
    assert "AUPRO" not in page.split("<h2")[2]


def test_defects_in_folders_get_a_line_each(checkpoints, folder, tmp_path):
    for number, path in enumerate(sorted((folder / "anomalous").iterdir())):
        kind = tmp_path / "defects" / ("crack", "stain")[number % 2]
        kind.mkdir(parents=True, exist_ok=True)
        (kind / path.name).write_bytes(path.read_bytes())
    data = DataConfig(normal=folder / "normal", anomalous=tmp_path / "defects")
    result = test(checkpoints["maps"], data, QUICK, tmp_path / "out")
    rows = select(Results.read(result.results).rows, against=["crack", "stain"])
    attacks = dict.fromkeys(row.attack for row in result.rows if row.detector == "patchguard")
    assert [row.attack for row in rows] == [attack for attack in attacks for _ in range(2)]
    assert all(row.against is None for row in result.rows)
    page = result.report.read_text()
    assert "Kind (images)" in page and "crack (6)" in page


def test_corruptions_have_a_table_and_rows(checkpoints, data, tmp_path):
    config = dataclasses.replace(QUICK, corruptions=("vignetting", "snow"), severities=(1, 5))
    result = test(checkpoints["calibrated"], data, config, tmp_path)
    rows = Results.read(result.results).rows
    found = select(rows, detector="patchguard", metric="false_alarm_rate")
    cells = [(name, severity) for name in ("vignetting", "snow") for severity in (1.0, 5.0)]
    assert [(row.attack, row.epsilon) for row in found] == [("none", 0.0), *cells, ("corruptions", 0.0)]
    assert found[0].value == 1, "all scores lie above the detector's own threshold"
    assert all(row.norm != "severity" for row in result.rows)
    page = result.report.read_text()
    for text in (
        "mean of all corruptions",
        "vignetting",
        "false alarms, 5",
        "brightness, clean",
        "the detector&#39;s own",
    ):
        assert text in page, text
    for options, text in (
        ({"corruptions": ("all", "rain")}, "`corruptions` must be"),
        ({"severities": (7,)}, "`severities` must"),
    ):
        with pytest.raises(ValueError, match=text):
            TestConfig(**options)


def test_normal_images_alone_are_reported_without_figures(checkpoints, folder, tmp_path):
    result = test(checkpoints["maps"], DataConfig(normal=folder / "normal"), QUICK, tmp_path)
    assert all(row.value is None and row.reason for row in result.rows)
    assert "All test images are normal" in result.report.read_text()


def test_without_data_the_training_data_are_used_and_their_normals_left_out(checkpoints, data, tmp_path, monkeypatch):
    detector = load_checkpoint(checkpoints["maps"]).detector
    info = {"data": data.to_dict(), "seed": 7, "recipe": "default"}
    checkpoint = save_checkpoint(tmp_path / "run" / "checkpoint", detector, info=info)
    (tmp_path / "run" / "log.jsonl").write_text('{"step": 1, "loss": 2.0}\n{"step": 2, "loss": 1.5}\n')
    result = test(checkpoint, None, QUICK, tmp_path / "out")
    row = result.rows[0]
    assert (row.seed, row.recipe) == (7, "default")
    assert "look” figures" in result.report.read_text()
    from robustad.workflows._data import fingerprint, load_split

    monkeypatch.setattr("robustad.workflows.test.build_report", lambda findings, results: Report(title="plain"))
    details = json.loads(result.results.read_text())["details"]
    assert details["training_images_unchanged"] is None  # no fingerprint was stored
    info["fingerprint"] = fingerprint(load_split(data, seed=7).train)
    checkpoint = save_checkpoint(tmp_path / "run" / "checkpoint", detector, info=info)
    result = test(checkpoint, None, QUICK, tmp_path / "out")
    assert json.loads(result.results.read_text())["details"]["training_images_unchanged"] is True


@pytest.mark.usefixtures("plain_report")
def test_an_interrupted_test_continues(checkpoints, data, tmp_path, monkeypatch):
    from robustad.evaluation import runner

    full = test(checkpoints["maps"], data, QUICK, tmp_path / "full")
    real, calls = runner._Work._attack, []

    def limited(self, chunk, epsilon):
        calls.append((chunk, epsilon))
        if len(calls) == 4:
            raise KeyboardInterrupt
        return real(self, chunk, epsilon)

    small = TestConfig(epsilons=(8 / 255,), steps=1, strong_steps=1, restarts=1, health=False, batch_size=10)
    monkeypatch.setattr(runner._Work, "_attack", limited)
    with pytest.raises(KeyboardInterrupt):
        test(checkpoints["maps"], data, small, tmp_path / "out")
    assert not (tmp_path / "out" / "results.json").exists()
    resumed = test(checkpoints["maps"], data, small, tmp_path / "out")
    assert len(calls) == 5  # two chunks clean, one attacked, the one that was interrupted, and that one again
    for one, two in zip(full.rows, resumed.rows, strict=True):
        assert one.value == pytest.approx(two.value, abs=2e-3)


@pytest.mark.usefixtures("plain_report")
def test_another_detectors_images_are_tried(checkpoints, data, tmp_path):
    from robustad.detectors import PatchGuard, PatchGuardConfig

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        other = save_checkpoint(
            tmp_path / "other", PatchGuard(PatchGuardConfig(image_size=32, backbone="vit_plain", top_k=1))
        )
    config = TestConfig(
        attacks=("ensemble",), epsilons=(8 / 255,), strong_steps=1, restarts=1, health=False, transfer=other
    )
    result = test(checkpoints["maps"], data, config, tmp_path / "out")
    details = json.loads(result.results.read_text())["details"]
    assert [run["goal"] for run in details["attacks"]["ensemble"]["runs"]][-2:] == ["transfer", "score"]
    with pytest.raises(ValueError, match="itself"):
        test(other, data, config, tmp_path / "out2")


@pytest.mark.usefixtures("plain_report")
def test_max_images_keeps_both_classes(checkpoints, data, tmp_path):
    config = TestConfig(attacks=("pgd",), epsilons=(), max_images=5, health=False)
    details = json.loads(test(checkpoints["maps"], data, config, tmp_path).results.read_text())["details"]
    assert (details["num_normal"], details["num_anomalous"]) == (2, 3)


@pytest.mark.usefixtures("plain_report")
def test_halves_of_a_folder_are_disjoint(checkpoints, data, tmp_path):
    counts = []
    for part in ("dev", "final", "all"):
        config = TestConfig(attacks=("pgd",), epsilons=(), part=part, health=False)
        details = json.loads(test(checkpoints["maps"], data, config, tmp_path).results.read_text())["details"]
        counts.append(details["num_normal"] + details["num_anomalous"])
    assert counts[0] + counts[1] == counts[2] == 20 and min(counts) > 0


@pytest.mark.usefixtures("plain_report")
def test_the_command_repeats_the_test(checkpoints, data, folder, tmp_path):
    config = TestConfig(
        attacks=("pgd", "lse-pgd"), epsilons=(2 / 255, 0.5), part="dev", steps=1, strong_steps=1, health=False
    )
    result = test(checkpoints["maps"], data, config, tmp_path)
    words = shlex.split(Results.read(result.results).command)
    assert words[:3] == ["robustad", "test", str(checkpoints["maps"])]
    text = " ".join(words)
    for part in (
        f"--normal {folder / 'normal'}", "--attacks pgd lse-pgd", "--epsilons 2/255 0.5", "--part dev", "--no-health",
        "--steps 1", f"--out {tmp_path}",
    ):  # fmt: skip
        assert part in text, part
    assert "--restarts" not in text


def test_bad_input_is_one_clear_line(checkpoints, data, tmp_path):
    with pytest.raises(CheckpointError, match="no checkpoint folder"):
        test(tmp_path / "nothing", data, QUICK, tmp_path / "out")
    with pytest.raises(ValueError, match="does not say what it was trained on"):
        test(checkpoints["maps"], None, QUICK, tmp_path / "out")
    with pytest.raises(LayoutError, match="does not exist"):
        test(checkpoints["maps"], DataConfig(normal=tmp_path / "none"), QUICK, tmp_path / "out")
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="must be a folder"):
        test(checkpoints["maps"], data, QUICK, tmp_path / "file")
    with pytest.raises(ValueError, match="pass 8/255"):
        TestConfig(epsilons=(8,))
    with pytest.raises(ValueError, match="`part`"):
        TestConfig(part="half")
    with pytest.raises(ValueError, match="ensemble"):
        TestConfig(attacks=("everything",))
    with pytest.raises(ValueError, match="twice"):
        TestConfig(epsilons=(2 / 255, 0.1, 2 / 255))
    with pytest.raises(ValueError, match="must not be negative"):
        TestConfig(epsilons=(-2 / 255,))
    with pytest.raises(ValueError, match="`queries` must be at least 1"):
        TestConfig(queries=0)
    with pytest.raises(ValueError, match="`norm`"):
        TestConfig(norm="l1")
    assert not (tmp_path / "out").exists()


def test_a_gradient_that_cannot_be_believed_calls_the_black_box(checkpoints, data, tmp_path, monkeypatch):
    wrong = Verdict("Gradient is right", False, "off by half", 0.5)
    monkeypatch.setattr("robustad.workflows._bench.examine", lambda *args, **options: [wrong])
    config = TestConfig(attacks=("pgd", "ensemble"), epsilons=(8 / 255,), strong_steps=1, restarts=1, queries=5)
    result = test(checkpoints["maps"], data, config, tmp_path / "doubtful")
    runs = json.loads(result.results.read_text())["details"]["attacks"]["ensemble"]["runs"]
    assert any("Square(" in run["attack"] for run in runs) and any("PGD(" in run["attack"] for run in runs)
    page = result.report.read_text()
    assert "Do not trust the figures of attacks that use the gradient: Gradient is right: off by half" in page

    cut = Verdict("Gradient is there", False, "the score has no gradient with respect to the pixels")
    monkeypatch.setattr("robustad.workflows._bench.examine", lambda *args, **options: [cut])
    result = test(checkpoints["maps"], data, config, tmp_path / "cut")
    details = json.loads(result.results.read_text())["details"]["attacks"]
    assert details["pgd"] == {"runs": [], "skipped": {"score": "the score has no gradient"}}
    assert ["Square(" in run["attack"] for run in details["ensemble"]["runs"]] == [True]
    assert "only attacks that need none were run" in result.report.read_text()


def test_certificates_have_a_table_and_rows(checkpoints, data, tmp_path):
    config = TestConfig(attacks=("pgd",), epsilons=(8 / 255,), steps=1, health=False, certify=0.2, certify_samples=30)
    result = test(checkpoints["maps"], data, config, tmp_path)
    rows = select(Results.read(result.results).rows, attack="certified", metric="image_AUROC")
    assert [(row.norm, row.epsilon) for row in rows] == [("l2", 0.25), ("l2", 0.5)]
    page = result.report.read_text()
    assert "What is certain: the detector smoothed with noise of 0.2" in page and "4/255 is 0.87" in page


def test_other_threats_have_a_table_and_rows(checkpoints, data, tmp_path):
    config = TestConfig(
        attacks=("pgd",), epsilons=(8 / 255,), steps=1, health=False, stickers=(0.2,), universal=(8 / 255,)
    )
    result = test(checkpoints["maps"], data, config, tmp_path)
    rows = Results.read(result.results).rows
    assert [row.epsilon for row in select(rows, attack=["sticker", "universal"])] == [0.2, 8 / 255]
    page = result.report.read_text()
    assert "sticker, 20% of the side" in page and "one perturbation for all images, 8/255" in page
    assert "--stickers 0.2 --universal 8/255" in page


def test_what_may_change_and_what_is_averaged_stands_in_the_report(checkpoints, data, tmp_path, monkeypatch):
    noisy = Verdict("Repeatable score", False, "two calls differ by up to 0.2", 0.2)
    monkeypatch.setattr("robustad.workflows._bench.examine", lambda *args, **options: [noisy])
    effort = {"steps": 1, "strong_steps": 1, "queries": 5}
    config = TestConfig(attacks=("pgd", "hide"), epsilons=(8 / 255,), where="foreground", **effort)
    result = test(checkpoints["maps"], data, config, tmp_path)
    page = result.report.read_text()
    assert "normal and anomalous images, foreground only; each step follows the mean of 8 calls" in page
    assert "--where foreground" in page and "--draws" not in page
    assert select(result.rows, attack="hide", metric="pixel_AUROC")


def test_a_failed_check_reaches_stickers_and_universal_perturbations(checkpoints, data, tmp_path, monkeypatch):
    wrong, asked = Verdict("Gradient is right", False, "off by half", 0.5), []
    monkeypatch.setattr("robustad.workflows._bench.examine", lambda *args, **options: [wrong])
    spy = lambda detector, images, config, **options: asked.append(config) or []  # noqa: E731
    monkeypatch.setattr("robustad.workflows._bench.evaluate_threats", spy)
    threats = {"stickers": (0.2,), "sticker_draws": 3, "universal": (2.0,)}
    config = TestConfig(attacks=("pgd",), epsilons=(0.4,), norm="l2", steps=1, queries=5, **threats)
    test(checkpoints["maps"], data, config, tmp_path)
    assert asked == [ThreatConfig(**threats, norm="l2", without_gradient=True)]


def test_certificates_score_copies_alone_where_company_changes_a_score(checkpoints, data, tmp_path, monkeypatch):
    sociable, asked = Verdict(COMPANY, False, "a score changes by 0.2 beside others", 0.2), []
    sound = Verdict(COMPANY, True, "", 0.0)
    real = evaluate_certified

    def spy(detector, images, config, **options):
        asked.append(options.get("batch_size"))
        return real(detector, images, config, **options)

    monkeypatch.setattr("robustad.workflows._bench.evaluate_certified", spy)
    config = TestConfig(attacks=("pgd",), epsilons=(8 / 255,), steps=1, queries=5, certify=0.2, certify_samples=20)
    for verdicts in ([sound], [sociable], []):
        monkeypatch.setattr("robustad.workflows._bench.examine", lambda *_a, found=verdicts, **_o: found)
        test(checkpoints["maps"], data, config, tmp_path)
    assert asked == [config.batch_size, 1, 1], "not known to change nothing is not enough"


def test_pieces_of_another_image_size_are_not_taken(checkpoints, data, tmp_path, monkeypatch):
    contexts = []
    real = Store.__init__

    def spy(self, folder, *, context):
        contexts.append(context)
        real(self, folder, context=context)

    monkeypatch.setattr("robustad.workflows.test.Store.__init__", spy)
    test(checkpoints["maps"], data, QUICK, tmp_path / "one")
    loaded = load_candidate(checkpoints["maps"], device=torch.device("cpu"))
    twice = 2 * loaded.detector.image_size
    monkeypatch.setattr(type(loaded.detector), "image_size", property(lambda _: twice))
    with contextlib.suppress(ValueError, RuntimeError):
        test(checkpoints["maps"], data, QUICK, tmp_path / "two")
    assert len(contexts) == 2 and contexts[0] != contexts[1]


@pytest.mark.parametrize(("draws", "calls"), [(None, 8), (1, 1), (3, 3)])
def test_who_asks_for_draws_gets_them(checkpoints, data, tmp_path, monkeypatch, draws, calls):
    noisy, asked = Verdict("Repeatable score", False, "two calls differ by up to 0.2", 0.2), []
    monkeypatch.setattr("robustad.workflows._bench.examine", lambda *args, **options: [noisy])
    spy = lambda detector, images, config, **options: asked.append(config.draws) or []  # noqa: E731
    monkeypatch.setattr("robustad.workflows._bench.evaluate_threats", spy)
    config = TestConfig(attacks=("pgd",), epsilons=(0.02,), steps=1, queries=5, stickers=(0.2,), draws=draws)
    result = test(checkpoints["maps"], data, config, tmp_path)
    assert asked == [calls]
    assert (f"the mean of {calls} calls" in result.report.read_text()) == (calls > 1)


def test_a_figure_that_several_tables_show_stands_once(tested):
    """Brightness at an L2 radius that is attacked and certified, for one."""
    rows = tested.rows
    assert _once([*rows, *rows[::-1]]) == rows
    kinds = [dataclasses.replace(row, against="scratch") for row in rows]
    assert _once([*rows, *kinds]) == [*rows, *kinds]
