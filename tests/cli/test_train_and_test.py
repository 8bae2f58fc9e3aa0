"""``fit``, ``test`` and ``demo``: what their words mean, and one tiny run of the first two."""

import json
import time
from pathlib import Path

import pytest
import yaml

from robustad.cli import fit as fit_verb
from robustad.cli import main
from robustad.cli import test as test_verb
from robustad.training import RECIPES
from robustad.workflows import demo as demo_module
from robustad.workflows import fit as fit_module
from robustad.workflows import test as test_module
from robustad.workflows.fit import FitResult, fit_config
from robustad.workflows.test import TestResult
from robustad.workflows.test_config import TestConfig


@pytest.fixture
def fitted(monkeypatch, tmp_path):
    """Calls of `fit`, which does nothing."""
    calls = []

    def fit(config, run_dir, *, resume=False):
        calls.append((config, str(run_dir), resume))
        return FitResult(tmp_path / "checkpoint", 1234, 5.6, {"look_AUROC": 0.98765})

    monkeypatch.setattr(fit_module, "fit", fit)
    monkeypatch.chdir(tmp_path)
    return calls


def test_without_options_fit_takes_the_recipe_as_it_is(fitted, capsys):
    for recipe in RECIPES:
        assert main(["fit", "--recipe", recipe]) == 0
        assert fitted[-1][0] == fit_config(recipe, "folder")
    printed = capsys.readouterr().out
    assert "1,234" in printed and "0.9877" in printed and "robustad test" in printed
    assert fitted[0][1].startswith("runs/folder-")


def test_a_detector_stands_for_its_first_recipe_and_has_options_of_its_own(fitted):
    assert main(["fit", "--detector", "cobra", "--losses.loss", "cl", "--model.width", "8"]) == 0
    config = fitted[0][0]
    assert (config.recipe, config.losses.loss, config.model.width) == ("cobra", "cl", 8)
    assert main(["fit", "--detector", "patchguard"]) == 0 and fitted[1][0] == fit_config("default")


@pytest.mark.parametrize("where", ["flag", "long flag", "file"])
def test_a_recipe_takes_what_it_prescribes_for_the_data(fitted, tmp_path, where):
    (tmp_path / "c.yaml").write_text("data: {data: digits, category: '3'}\n")
    words = {
        "flag": ["--data", "digits", "--category", "3"],
        "long flag": ["--data.data=digits", "--category", "3"],
        "file": ["--config", str(tmp_path / "c.yaml")],
    }[where]
    assert main(["fit", "--detector", "cobra", "--model.width", "8", *words]) == 0
    config = fitted[-1][0]
    assert config.data.category == "3" and config.model.image_size == 32 and config.model.width == 8
    assert (
        config.model.blocks == fit_config("cobra", "digits").model.blocks != fit_config("cobra", "mvtec").model.blocks
    )


@pytest.mark.parametrize("where", ["flag", "file"])
def test_a_detector_that_the_recipe_does_not_train_is_an_error(fitted, capsys, tmp_path, where):
    (tmp_path / "c.yaml").write_text("detector: cobra\n")
    words = (
        ["--recipe", "texture", "--detector", "cobra"] if where == "flag" else ["--config", str(tmp_path / "c.yaml")]
    )
    assert main(["fit", *words]) != 0
    assert "trains patchguard, not cobra" in capsys.readouterr().err and not fitted


def test_short_forms_reach_the_dataclasses(fitted):
    words = (
        "train --data btad --root d --category 01 --epsilon 2/255 --seed 3 --max-time 1h30m --max-steps 7 --download"
    )
    assert main([*words.split(), "--run-dir", "r", "--image-size", "64", "--model.feature_layers", "[1,2]"]) == 0
    config, run_dir, resume = fitted[0]
    assert (run_dir, resume) == ("r", False)
    assert (config.data.data, str(config.data.root), config.data.category, config.data.download) == (
        "btad",
        "d",
        "01",
        True,
    )
    training = config.training
    assert (training.epsilon, training.seed, training.max_time, training.max_steps) == (2 / 255, 3, 5400, 7)
    assert config.model.image_size == 64 and config.model.feature_layers == (1, 2)


def test_a_file_and_flags_over_it(fitted, tmp_path):
    (tmp_path / "c.yaml").write_text(
        "recipe: published\ndata: {normal: good}\ntraining:\n  epsilon: 4/255\n  max_time: 10m\nforeground: cam\n"
    )
    assert main(["fit", "--config", "c.yaml", "--max-time", "5m"]) == 0
    config = fitted[0][0]
    assert (config.recipe, config.method, config.foreground) == ("published", "published", "cam")
    assert (config.training.epsilon, config.training.max_time, str(config.data.normal)) == (4 / 255, 300, "good")
    assert config.model == fit_config("published").model


@pytest.mark.parametrize(
    ("words", "limits"),
    [
        (["--recipe", "published", "--max-time", "5m"], (300, None, None)),
        (["--recipe", "published", "--training.max_time=5m"], (300, None, None)),
        (["--max-epochs", "3"], (None, None, 3)),
        (["--max-epochs", "null"], (300, None, None)),
        (["--recipe", "published"], (None, None, 1000)),
        (["--config", "time.yaml"], (600, None, None)),
        (["--config", "time.yaml", "--max-steps", "9"], (None, 9, None)),
        (["--config", "steps.yaml", "--max-time", "5m"], (300, None, None)),
    ],
)
def test_who_names_a_length_means_no_other(fitted, tmp_path, words, limits):
    (tmp_path / "time.yaml").write_text("recipe: published\ntraining: {max_time: 10m, max_epochs: null}\n")
    (tmp_path / "steps.yaml").write_text("training: {max_steps: 4, max_epochs: 1}\n")
    assert main(["fit", *words]) == 0
    training = fitted[0][0].training
    assert (training.max_time, training.max_steps, training.max_epochs) == limits


def test_an_unknown_flag_and_a_bad_value_are_usage_errors(fitted, capsys):
    assert main(["test", "c", "--epsilon", "8/255"]) == 2
    assert "did you mean --epsilons?" in capsys.readouterr().err
    assert main(["fit", "--batch-size", "0"]) == 2
    assert "batch_size" in capsys.readouterr().err and not fitted


def test_without_known_anomalies_the_next_step_names_them(fitted, monkeypatch, capsys, tmp_path):
    assert main(["fit"]) == 0
    assert "--anomalous" not in capsys.readouterr().out
    made = FitResult(tmp_path / "c", 1, 1.0, {}, testable=False)
    monkeypatch.setattr(fit_module, "fit", lambda *_args, **_options: made)
    assert main(["fit"]) == 0
    assert f"robustad test {tmp_path / 'c'} --normal DIR --anomalous DIR" in capsys.readouterr().out


def test_what_print_config_prints_can_be_read_back(fitted, tmp_path, capsys):
    assert main(["fit", "--print_config", "--epsilon", "1/255", "--recipe", "published"]) == 0
    printed = capsys.readouterr().out
    assert yaml.safe_load(printed)["training"]["epsilon"] == 1 / 255
    (tmp_path / "c.yaml").write_text(printed)
    assert main(["fit", "--config", "c.yaml"]) == 0
    assert fitted[0][0].training.epsilon == 1 / 255 and fitted[0][0].model == fit_config("published").model


def test_resuming_takes_everything_from_the_run_folder(fitted, tmp_path, capsys):
    config = fit_config("published")
    (tmp_path / "r").mkdir()
    (tmp_path / "r/config.json").write_text(json.dumps(config.to_dict()))
    assert main(["fit", "--run-dir", "r", "--resume"]) == 0
    assert fitted == [(config, "r", True)]
    capsys.readouterr()
    assert main(["fit", "--run-dir", "r", "--resume", "--seed", "1"]) == 2
    assert "leave out --seed" in capsys.readouterr().err
    assert main(["fit", "--resume"]) == 2
    assert main(["fit", "--resume", "--run-dir", "none"]) == 1
    assert len(fitted) == 1


def test_an_interrupted_training_says_how_to_go_on(fitted, monkeypatch, capsys):
    def stop(_, run_dir, **__):
        assert run_dir.is_dir(), "reserved"
        (run_dir / "config.json").touch()
        raise KeyboardInterrupt

    monkeypatch.setattr(fit_module, "fit", stop)
    assert main(["fit"]) == 130
    error = capsys.readouterr().err
    assert "go on with: robustad fit --run-dir runs/folder-" in error and error.rstrip().endswith("--resume")


def test_trainings_that_begin_in_the_same_second_have_folders_of_their_own(fitted, monkeypatch):
    monkeypatch.setattr(time, "strftime", lambda _: "now")
    folders, runs = [], Path("runs")

    def keep(_, run_dir, **__):
        folders.append(run_dir.name)
        (run_dir / "config.json").touch()
        raise KeyboardInterrupt

    monkeypatch.setattr(fit_module, "fit", keep)
    for _ in range(3):
        assert main(["fit"]) == 130
    assert folders == ["folder-now", "folder-now-2", "folder-now-3"]

    def fail(*_, **__):
        raise ValueError("no images")

    monkeypatch.setattr(fit_module, "fit", fail)
    assert main(["fit"]) == 1
    assert sorted(path.name for path in runs.iterdir()) == folders, "no empty folder is left"


def test_an_interruption_before_training_has_nothing_to_go_on_with(fitted, monkeypatch, capsys):
    def stop(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(fit_module, "fit", stop)
    assert main(["fit", "--run-dir", "r"]) == 130
    error = capsys.readouterr().err
    assert error.rstrip().endswith("give the same command again") and "--resume" not in error


@pytest.fixture
def tested(monkeypatch, tmp_path):
    calls = []

    def test(checkpoint, data, config, out, **_):
        calls.append((checkpoint, data, config, str(out)))
        return TestResult(report=tmp_path / "report.html", results=tmp_path / "results.json", rows=[], verdicts=[])

    monkeypatch.setattr(test_module, "test", test)
    monkeypatch.setattr(test_module, "console_table", lambda rows: "TABLE")
    return calls


def test_test_without_options(tested, tmp_path, capsys):
    assert main(["test", str(tmp_path / "run/checkpoint")]) == 0
    assert tested == [(str(tmp_path / "run/checkpoint"), None, TestConfig(), str(tmp_path / "run/test"))]
    printed = capsys.readouterr().out
    assert "TABLE" in printed and "report.html" in printed


def test_test_options(tested):
    words = "test c --out o --data mtd --attacks pgd ensemble --epsilons 0 1/255 0.02 --targets normal --part final"
    more = "--steps 3 --strong-steps 4 --restarts 5 --max-images 6 --seed 7 --batch-size 8 --transfer t --no-health"
    assert main([*words.split(), *more.split()]) == 0
    _, data, config, out = tested[0]
    assert (data.data, out) == ("mtd", "o")
    assert config.attacks == ("pgd", "ensemble") and config.epsilons == (0, 1 / 255, 0.02)
    assert (config.targets, config.part, config.health, str(config.transfer)) == ("normal", "final", False, "t")
    numbers = (config.steps, config.strong_steps, config.restarts, config.max_images, config.seed, config.batch_size)
    assert numbers == (3, 4, 5, 6, 7, 8)


def test_corruptions_by_name_and_by_group(tested):
    assert main(["test", "c", "--corruptions", "snow", "industrial", "--severities", "2", "5"]) == 0
    config = tested[0][2]
    assert config.corruptions == ("snow", "industrial") and config.severities == (2, 5)
    assert len(config.corruption_names) == 13
    for group, count in (("imagenet-c", 15), ("industrial", 12), ("all", 27)):
        assert main(["test", "c", "--corruptions", group]) == 0
        assert len(tested[-1][2].corruption_names) == count


@pytest.mark.parametrize(
    ("words", "code", "text"),
    [
        ("--root d", 2, "--root needs --data NAME"),
        ("--epsilons 0 8", 2, "8/255"),
        ("--attacks pdg", 2, "pgd"),
        ("--part half", 2, "final"),
        ("--targets none", 2, "anomalous"),
        ("--corruptions all rain", 2, "--corruptions must be one of"),
        ("--corruptions imagenetc", 2, "did you mean 'imagenet-c'"),
        ("--corruptions motion-blur", 2, "did you mean 'motion_blur'"),
        ("--corruptions snow --severities 6", 2, "--severities must be whole numbers from 1 to 5, got [6]"),
        ("--severities 5", 2, "--severities does nothing without --corruptions"),
        ("--certify-radii 0.1", 2, "--certify-radii does nothing without --certify"),
        ("--certify-samples 10", 2, "--certify-samples does nothing without --certify"),
        ("--sticker-draws 8", 2, "--sticker-draws does nothing without --stickers"),
        ("--attacks pgd transfer", 2, "pass its checkpoint as --transfer"),
        ("--attacks pgd --transfer other", 2, "--transfer is for the attacks 'transfer' and 'ensemble'"),
        ("--data elvp", 2, "did you mean 'elpv'"),
    ],
)
def test_test_options_that_are_wrong(tested, capsys, words, code, text):
    assert main(["test", "c", *words.split()]) == code
    error = capsys.readouterr().err
    assert text in error and error.count("\n") == 1 and tested == []


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["fit", "--recipe", "textrue"], "did you mean 'texture'"),
        (["visualize", "c", "i", "--steps", "0"], "`steps` must be at least 1"),
        (["predict", "c", "i", "--map-range", "0", "1"], "`map_range` is the scale of `overlays`"),
        (["demo", "--detector", "corba"], "did you mean 'cobra'"),
        (["data", "check", "d", "--data", "elvp"], "did you mean 'elpv'"),
        (["download", "mvtec", "--category", "bottle"], "--category is for weights, not for mvtec"),
        (["download", "mvtec", "--target", "d"], "--target is for weights"),
        (["download", "weights", "--dataset", "mvtec", "--root", "d"], "--root is for a dataset, not for weights"),
        (["data", "check", "d", "--root", "d"], "FOLDER and --root are the same"),
    ],
)
def test_values_and_options_that_do_not_fit_are_wrong_usage(capsys, words, text):
    assert main(words) == 2
    error = capsys.readouterr().err
    assert text in error and error.count("\n") == 1


def test_failed_health_checks_are_printed(capsys, monkeypatch, tested, tmp_path):
    from robustad.evaluation import Verdict

    verdicts = [
        Verdict("gradient", False, "it is zero"),
        Verdict("order", True, "fine"),
        Verdict("box", None, "not run"),
    ]
    result = TestResult(report=tmp_path, results=tmp_path, rows=[], verdicts=verdicts)
    monkeypatch.setattr(test_module, "test", lambda *_, **__: result)
    assert main(["test", "c"]) == 0
    printed = capsys.readouterr().out
    assert "health check gradient failed: it is zero" in printed.replace("\n", " ") and "fine" not in printed


def test_demo(monkeypatch, tested, tmp_path, capsys):
    calls = []
    result = TestResult(report=tmp_path / "r.html", results=tmp_path / "r.json", rows=[], verdicts=[])
    made = demo_module.DemoResult(tmp_path / "checkpoint", result)
    monkeypatch.setattr(demo_module, "demo", lambda *args, **options: calls.append((args, options)) or made)
    words = ["demo", "--detector", "cobra", "--max-time", "5m", "--seed", "2", "--run-dir", "d", "--overwrite"]
    assert main(words) == 0
    assert calls == [(("d",), {"detector": "cobra", "max_time": 300.0, "seed": 2, "overwrite": True})]
    assert main(["demo"]) == 0 and calls[1][1]["detector"] == "patchguard"
    assert "TABLE" in capsys.readouterr().out


def test_help_texts_hide_what_the_short_forms_replace(capsys):
    assert main(["fit", "--help"]) == 0
    printed = capsys.readouterr().out
    assert "--data CONFIG" not in printed and "  --epsilon        --training.epsilon" in printed
    assert fit_verb.build([]).parse(["--data", "mtd"]).data.data == "mtd"
    assert test_verb.build([]).parse(["c"]).checkpoint == "c"


def test_from_images_to_a_report(tmp_path, write_image, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for number in range(12):
        write_image(tmp_path / f"good/{number}.png", 120 + number, size=(32, 32))
    for number in range(3):
        write_image(tmp_path / f"bad/{number}.png", 30 + number, size=(32, 32))
    tiny = ["--image-size", "32", "--model.backbone", "vit_plain", "--model.top_k", "1", "--training.look_every", "0"]
    assert main(["fit", "--normal", "good", "--anomalous", "bad", "--run-dir", "run", "--max-steps", "2", *tiny]) == 0
    words = ["test", "run/checkpoint", "--epsilons", "2/255", "--attacks", "pgd", "--steps", "1", "--no-health"]
    assert main(words) == 0
    assert "AUROC" in capsys.readouterr().out
    assert (tmp_path / "run/test/report.html").exists()
    assert json.loads((tmp_path / "run/test/results.json").read_text())["rows"]
    assert main(["predict", "run/checkpoint", "bad", "--out", "scores.csv"]) == 0
