"""``robustad benchmark``: a YAML matrix in, a leaderboard out; wrong ones are one line."""

import pytest

from robustad.cli import main
from robustad.cli.benchmark import _read

MATRIX = """
detectors:
  small:
    training: {max_steps: 1, batch_size: 4, epsilon: 1/255, look_every: 0.0, precision: float32}
    model: {image_size: 32}
  gone: {checkpoint: nowhere}
data: {name: parts, normal: normal, anomalous: anomalous}
test: {attacks: [pgd], epsilons: [4/255], steps: 1, health: false}
"""


@pytest.fixture
def place(tmp_path, write_image, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for number in range(10):
        write_image(tmp_path / f"normal/{number}.png", 20 * number + 20, size=(32, 32))
    for number in range(2):
        write_image(tmp_path / f"anomalous/{number}.png", 70 * number + 20, size=(32, 32))
    (tmp_path / "matrix.yaml").write_text(MATRIX)
    return tmp_path


def test_a_matrix_becomes_a_leaderboard_and_says_what_is_missing(place, capsys):
    assert main(["benchmark", "matrix.yaml"]) == 3, "done, but not all of it"
    captured = capsys.readouterr()
    assert "| small |" in captured.out and "mean brightness" in captured.out
    assert "leaderboard:" in captured.out and "not measured, gone on parts" in captured.out
    assert "cell 1 of 2: small on parts, seed 0" in captured.err
    assert (place / "runs/matrix/leaderboard.html").is_file()
    main(["benchmark", "matrix.yaml", "--out", "runs/matrix"])
    assert "small on parts" not in capsys.readouterr().err, "it is done"


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        (None, "none.yaml does not exist"),
        ("a: [", "matrix.yaml is not YAML"),
        ("- a", "matrix.yaml must hold `detectors`"),
        ("detectors: {a: {recipe: none}}", "matrix.yaml: a matrix needs at least one of each"),
        (MATRIX.replace("1/255", "8"), "matrix.yaml: detectors.small: "),
        (MATRIX.replace("[4/255]", "[four]"), "matrix.yaml: expected a number such as 8/255"),
    ],
)
def test_a_wrong_matrix_is_one_line(place, capsys, text, wanted):
    name = "none.yaml" if text is None else "matrix.yaml"
    if text is not None:
        (place / name).write_text(text)
    assert main(["benchmark", name]) == 2
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err.count("\n") == 1
    assert wanted in captured.err
    assert not (place / "runs").exists()


def test_nothing_measured_is_a_failure(place, capsys):
    text = MATRIX.replace("gone:", "lost:").replace("image_size: 32", "image_size: 33")
    (place / "matrix.yaml").write_text(text)
    assert main(["benchmark", "matrix.yaml"]) == 1
    assert "not measured, lost on parts" in capsys.readouterr().out


def test_numbers_are_read_as_people_write_them(place):
    values = _read(place / "matrix.yaml")
    assert values["detectors"]["small"]["training"]["epsilon"] == 1 / 255
    (place / "matrix.yaml").write_text("a: 1e-3\nb: -2.5E+4\nc: 3\nd: e5\n")
    assert _read(place / "matrix.yaml") == {"a": 0.001, "b": -25000.0, "c": 3, "d": "e5"}
