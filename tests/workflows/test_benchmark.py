"""The matrix: every cell trained and tested once, resumed, and ranked; what fails does not stop the rest."""

from __future__ import annotations

import csv
import dataclasses
import json

import numpy as np
import pytest
from PIL import Image

from robustad.errors import CheckpointError, MissingExtra
from robustad.evaluation import Results
from robustad.workflows import benchmark as module
from robustad.workflows._data import DataConfig, images_of
from robustad.workflows.benchmark import Matrix, benchmark, cells, configured

SMALL = {
    "training": {"max_steps": 2, "batch_size": 4, "precision": "float32", "look_every": 0.0},
    "model": {"image_size": 32},
}
COBRA = {
    "recipe": "cobra",
    "training": {**SMALL["training"], "attack_steps": 1},
    "model": {"image_size": 32, "width": 4, "backbone": "resnet18"},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    base = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)
    for kind, count in (("normal", 30), ("anomalous", 6)):
        (base / kind).mkdir()
        for number in range(count):
            pixels = rng.integers(110, 150, (32, 32, 3)).astype(np.uint8)
            if kind == "anomalous":
                pixels[8:20, 8:20] //= 2
            Image.fromarray(pixels).save(base / kind / f"{number:02}.png")
    return base


def plain(folder, **changes):
    data = [{"name": "parts", "normal": str(folder / "normal"), "anomalous": str(folder / "anomalous")}]
    test = {"attacks": ["pgd"], "epsilons": [4 / 255], "steps": 1, "health": False}
    return {"detectors": {"small": SMALL, "cobra": COBRA}, "data": data, "seeds": [0, 1], "test": test, **changes}


@pytest.fixture(scope="module")
def made(folder, tmp_path_factory, checkpoints):
    values = plain(folder)
    values["detectors"] = {**values["detectors"], "mine": {"checkpoint": str(checkpoints["maps"])}}
    out, seen = tmp_path_factory.mktemp("made") / "out", []
    matrix = Matrix.from_dict(values)
    return matrix, out, benchmark(matrix, out, command="robustad benchmark m.yaml", on_cell=seen.append), seen


def test_every_cell_is_trained_and_tested(made):
    _, out, result, seen = made
    assert result.failed == {}
    assert [line.partition(";")[0] for line in seen] == [
        "cell 1 of 5: small on parts, seed 0",
        "cell 2 of 5: cobra on parts, seed 0",
        "cell 3 of 5: mine on parts",
        "cell 4 of 5: small on parts, seed 1",
        "cell 5 of 5: cobra on parts, seed 1",
    ]
    for place in ("small/parts/seed-0", "cobra/parts/seed-1", "mine/parts"):
        assert (out / place / "test" / "report.html").is_file()


def test_the_board_ranks_by_the_attacked_figure_with_brightness_last(made):
    _, out, result, _ = made
    (board,) = result.boards
    assert board.data == "parts" and board.ranked_by == ("pgd, 4/255",)
    assert sorted(s.name for s in board.standings) == ["cobra", "mean brightness", "mine", "small"]
    assert board.standings[-1].baseline and board.standings[-1].name == "mean brightness"
    values = [standing.figures["pgd, 4/255"].number for standing in board.standings[:-1]]
    assert values == sorted(values, reverse=True)
    small = next(standing for standing in board.standings if standing.name == "small")
    stored = [
        row.value
        for seed in (0, 1)
        for row in Results.read(out / f"small/parts/seed-{seed}/test/results.json").rows
        if (row.detector, row.attack, row.metric) == ("patchguard", "pgd", "image_AUROC")
    ]
    assert small.figures["pgd, 4/255"].values == tuple(stored) and len(stored) == 2
    assert small.reports[1] == "small/parts/seed-1/test/report.html" and (out / small.reports[1]).is_file()


def test_page_table_and_figures_are_written(made):
    _, out, result, _ = made
    page = result.page.read_text()
    assert 'href="small/parts/seed-1/test/report.html"' in page and "robustad benchmark m.yaml" in page
    assert "Ranked by pgd, 4/255" in (out / "leaderboard.md").read_text()
    lines = list(csv.DictReader((out / "leaderboard.csv").read_text().splitlines()))
    assert {line["detector"] for line in lines} == {"small", "cobra", "mine", "brightness"}
    assert {line["data"] for line in lines} == {"parts"}
    # brightness stands there once per seed, although every cell computes it
    kept = [line for line in lines if line["detector"] == "brightness" and line["metric"] == "image_AUROC"]
    assert [(line["seed"], line["attack"]) for line in kept] == [(s, a) for s in "01" for a in ("none", "exact")]


def test_corruptions_are_columns_of_their_own(folder, tmp_path):
    values = plain(folder, seeds=[0, 1], detectors={"small": SMALL})
    values["test"] |= {"corruptions": ["jpeg", "motion_blur"], "severities": [1, 5]}
    (board,) = benchmark(Matrix.from_dict(values), tmp_path / "out").boards
    titles = [column.title for column in board.columns]
    assert titles[-3:] == ["corrupted (mean)", "false alarms, corrupted", "misses, corrupted"]
    assert board.ranked_by == ("pgd, 4/255",) and not any("jpeg" in title for title in titles)
    for standing in board.standings:
        assert set(standing.figures) >= set(titles[-3:]) and len(standing.figures[titles[-1]].values) == 2


def test_finished_cells_are_not_done_again(made, monkeypatch):
    matrix, out, first, _ = made
    for name in ("fit", "test"):
        monkeypatch.setattr(module, name, lambda *_args, **_kw: pytest.fail("done already"))
    seen: list[str] = []
    again = benchmark(matrix, out, on_cell=seen.append)
    assert seen == [] and again.boards == first.boards


def test_a_cell_of_other_weights_or_other_data_is_done_again(made):
    matrix, out, _, _ = made
    for place in module.cells(matrix, out):
        assert module.finished(place, matrix.test) is not None
        other = dataclasses.replace(place.data, category="another")
        assert module.finished(place._replace(data=other), matrix.test) is None
        path = place.checkpoint / "config.json"
        kept = path.read_text(encoding="utf-8")
        try:
            path.write_text(json.dumps({**json.loads(kept), "weights_sha256": "0" * 64}), encoding="utf-8")
            assert module.finished(place, matrix.test) is None
            path.unlink()
            assert module.finished(place, matrix.test) is None, "and no crash"
        finally:
            path.write_text(kept, encoding="utf-8")
        assert module.finished(place, matrix.test) is not None


def test_a_cell_without_its_page_is_done_again(made):
    matrix, out, _, _ = made
    place = next(place for place in cells(matrix, out) if place.config is not None)
    page = place.folder / "test" / "report.html"
    assert module.finished(place, matrix.test) is not None
    text = page.read_text()
    page.unlink()
    assert module.finished(place, matrix.test) is None
    page.write_text(text)


@pytest.mark.parametrize("edition", ["health", "attacks"])
def test_a_cell_that_was_measured_by_an_earlier_edition_is_done_again(made, monkeypatch, edition):
    matrix, out, _, _ = made
    place = next(iter(module.cells(matrix, out)))
    assert module.finished(place, matrix.test) is not None
    monkeypatch.setitem(module.EDITIONS, edition, module.EDITIONS[edition] + 1)
    assert module.finished(place, matrix.test) is None


def test_a_cell_whose_results_cannot_be_read_is_done_again(made):
    matrix, out, _, _ = made
    place = next(iter(module.cells(matrix, out)))
    path = place.folder / "test" / "results.json"
    text = path.read_text()
    try:
        for damaged in (text[:100], "[]", "{}"):
            path.write_text(damaged)
            assert module.finished(place, matrix.test) is None
    finally:
        path.write_text(text)
    assert module.finished(place, matrix.test) is not None


def test_a_cell_whose_other_detector_changed_is_done_again(made, checkpoints, tmp_path, monkeypatch):
    matrix, out, _, _ = made
    place = next(iter(module.cells(matrix, out)))
    config = dataclasses.replace(matrix.test, attacks=("ensemble",), transfer=checkpoints["maps"])
    path = place.folder / "test" / "results.json"
    text = path.read_text()
    known = json.loads(text)
    known["details"] |= {"config": module.settings(config), "transfer": module.digest_of(checkpoints["maps"])}
    try:
        path.write_text(json.dumps(known))
        assert module.finished(place, config) is not None
        known["details"]["transfer"] = "of earlier weights"
        path.write_text(json.dumps(known))
        assert module.finished(place, config) is None
    finally:
        path.write_text(text)


def test_a_cell_whose_images_changed_is_done_again(made):
    matrix, out, _, _ = made
    place = next(iter(module.cells(matrix, out)))
    image = images_of(place.data, part="all", seed=place.seed).test[0].path
    kept = image.read_bytes()
    try:
        Image.new("RGB", (16, 16), (9, 9, 9)).save(image)
        assert module.finished(place, matrix.test) is None
    finally:
        image.write_bytes(kept)
    assert module.finished(place, matrix.test) is not None


def test_an_interrupted_cell_goes_on(folder, tmp_path, monkeypatch):
    matrix = Matrix.from_dict(plain(folder, seeds=[0], detectors={"small": SMALL}))
    honest = module.test

    def interrupted(*_args, **_kw):
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "test", interrupted)
    with pytest.raises(KeyboardInterrupt):
        benchmark(matrix, tmp_path / "out")
    monkeypatch.setattr(module, "test", honest)
    monkeypatch.setattr(module, "fit", lambda *_args, **_kw: pytest.fail("trained already"))
    assert benchmark(matrix, tmp_path / "out").failed == {}


def test_a_training_that_was_killed_before_it_saved_begins_again(folder, tmp_path):
    matrix = Matrix.from_dict(plain(folder, seeds=[0], detectors={"small": SMALL}))
    benchmark(matrix, tmp_path / "out")
    (place,) = cells(matrix, tmp_path / "out")
    for left in ("resume.pt", "checkpoint/config.json", "test/results.json"):
        (place.folder / left).unlink()
    assert benchmark(matrix, tmp_path / "out").failed == {}


def test_a_cell_that_fails_does_not_stop_the_others(folder, tmp_path):
    values = plain(folder, seeds=[0], detectors={"gone": {"checkpoint": str(tmp_path / "gone")}, "small": SMALL})
    result = benchmark(Matrix.from_dict(values), tmp_path / "out")
    assert list(result.failed) == ["gone on parts"] and "gone" in result.failed["gone on parts"]
    assert [standing.name for standing in result.boards[0].standings] == ["small", "mean brightness"]
    page = result.page.read_text()
    assert "Not measured" in page and "gone on parts" in page


def test_what_was_not_foreseen_leaves_its_whole_story(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "fit", lambda *_args, **_options: {}["nowhere"])
    result = benchmark(Matrix.from_dict(plain(folder, seeds=[0])), tmp_path / "out")
    stories = sorted((tmp_path / "out" / "leaderboard-errors").iterdir())
    assert len(result.failed) == len(stories) == 2
    assert all(why.startswith("KeyError: 'nowhere' (see ") for why in result.failed.values())
    assert "Traceback" in stories[0].read_text() and str(stories[0]) in "".join(result.failed.values())


def test_a_length_that_is_named_takes_the_place_of_the_recipes(folder):
    data = DataConfig(normal=folder / "normal")
    timed = configured({"recipe": "published", "training": {"max_time": 60.0}}, data, 0).training
    assert (timed.max_time, timed.max_steps, timed.max_epochs) == (60.0, None, None)
    plainly = configured({"recipe": "published", "training": {"epsilon": 0.01}}, data, 0).training
    assert (plainly.max_time, plainly.max_epochs) == (None, 1000)


def test_weights_by_name_are_replaced_as_on_the_command_line(folder):
    data = DataConfig(normal=folder / "normal")
    made = configured({"pseudo": {"shapes": {"blob": 1, "stroke": 1}, "max_regions": 2}}, data, 0).pseudo
    assert made.shapes == {"blob": 1, "stroke": 1} and made.max_regions == 2
    assert made.appearances == configured({}, data, 0).pseudo.appearances


def test_one_value_stands_for_a_list_of_one(folder):
    matrix = Matrix.from_dict(plain(folder, test={"epsilons": 2 / 255, "attacks": "pgd"}))
    assert matrix.test.epsilons == (2 / 255,) and matrix.test.attacks == ("pgd",)


def test_other_options_are_not_mixed_with_what_is_there(folder, tmp_path):
    benchmark(Matrix.from_dict(plain(folder, seeds=[0], detectors={"small": SMALL})), tmp_path / "out")
    other = {**SMALL, "training": {**SMALL["training"], "max_steps": 3}}
    with pytest.raises(CheckpointError, match=r"small/parts/seed-0 was trained with other options \(training\)"):
        benchmark(Matrix.from_dict(plain(folder, seeds=[0], detectors={"small": other})), tmp_path / "out")


def test_another_test_is_run_on_what_is_trained(folder, tmp_path, monkeypatch):
    values = plain(folder, seeds=[0], detectors={"small": SMALL})
    benchmark(Matrix.from_dict(values), tmp_path / "out")
    monkeypatch.setattr(module, "fit", lambda *_args, **_kw: pytest.fail("trained already"))
    values["test"] = {**values["test"], "epsilons": [8 / 255]}
    assert benchmark(Matrix.from_dict(values), tmp_path / "out").boards[0].ranked_by == ("pgd, 8/255",)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"detectors": {}}, "at least one of each"),
        ({"detectors": {"a": "default"}}, r"detectors\.a must hold options"),
        ({"detectors": {"a": {"recipe": "none such"}}}, r"detectors\.a: `recipe` must be one of"),
        ({"detectors": {"a": {"trainin": {}}}}, r"detectors\.a: unknown option 'trainin'"),
        ({"detectors": {"a": {"training": {"lr": 1}}}}, r"detectors\.a: unknown option 'lr'; known: .*learning_rate"),
        ({"detectors": {"a": {"data": {}}}}, r"detectors\.a: `data` stands beside"),
        ({"detectors": {"a": {"checkpoint": "x", "recipe": "default"}}}, r"detectors\.a: a `checkpoint` is trained"),
        ({"detectors": {"a b": {}, "a/b": {}}}, "must differ in more than signs"),
        ({"detectors": {"cobra": {}, "COBRA": {}}}, "signs and capitals"),
        ({"data": []}, "at least one of each"),
        ({"data": ["elpv"]}, r"data\[0\] must hold options"),
        ({"data": [{"data": "elvp"}]}, r"data\[0\]: `data` must be one of"),
        ({"data": [{"normal": "a"}, {"normal": "b"}]}, "two entries of `data` are called 'folder'; give each a `name`"),
        ({"seeds": [1, 1]}, "each once"),
        ({"seeds": [-1]}, "`seeds` must be at least 0"),
        ({"seeds": ["a"]}, "`seeds` must be whole numbers"),
        ({"seeds": 3}, "`seeds` must be a list"),
        ({"detectors": {"a": {"training": {"seed": 7}}}}, r"detectors\.a: .*leave training\.seed out"),
        ({"detectors": {"brightness": {}}}, "a detector cannot be called 'brightness'"),
        ({"test": {"attack": ["pgd"]}}, r"test: unknown option 'attack'; known: attacks"),
        ({"test": {"attacks": ["pgd2"]}}, r"test: `attacks` must be one of"),
        ({"sedes": [1]}, "unknown key 'sedes'; known: data, detectors, seeds, test"),
    ],
)
def test_wrong_matrices_are_one_clear_line(folder, changes, text):
    with pytest.raises(ValueError, match=text):
        Matrix.from_dict(plain(folder, **changes))


def test_a_list_of_categories_means_each(folder):
    values = plain(folder, data={"data": "digits", "category": ["3", 5]}, detectors={"cobra": COBRA}, seeds=[0])
    matrix = Matrix.from_dict(values)
    assert {label: data.category for label, data in matrix.data.items()} == {"digits:3": "3", "digits:5": "5"}
    place = next(cells(matrix, folder))
    assert place.config.model.blocks == ({"elastic": 1.0},), "what the recipe prescribes for the data"
    assert place.config.model.width == 4 and place.config.training.max_time is None


def test_no_checks_are_not_all_passed(made):
    _, out, result, _ = made
    assert all(not standing.checks for board in result.boards for standing in board.standings)
    assert "all passed" not in (out / "leaderboard.md").read_text()


def test_a_missing_extra_stops_its_cell_only(folder, tmp_path, monkeypatch):
    def missing(*_args, **_options):
        raise MissingExtra("pip install robustad[onnx]")

    monkeypatch.setattr(module, "fit", missing)
    result = benchmark(Matrix.from_dict(plain(folder, seeds=[0])), tmp_path / "out")
    assert set(result.failed.values()) == {"pip install robustad[onnx]"} and len(result.failed) == 2
    assert result.boards == []
