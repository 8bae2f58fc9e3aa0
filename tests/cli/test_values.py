from argparse import ArgumentTypeError

import pytest

from robustad.cli.values import duration, epsilon, fraction, radius, read_by_name


@pytest.mark.parametrize(
    ("text", "value"), [("8/255", 8 / 255), ("0.03", 0.03), ("0", 0), ("1e-2", 0.01), ("0.5/255", 0.5 / 255)]
)
def test_radii(text, value):
    assert fraction(text) == epsilon(text) == value


@pytest.mark.parametrize("text", ["8/0", "a", "1/2/3", "", "/255", "8/"])
def test_what_is_no_number(text):
    with pytest.raises(ArgumentTypeError, match="8/255"):
        fraction(text)


@pytest.mark.parametrize("text", ["8", "255", "-1", "nan", "300/255"])
def test_what_is_no_radius(text):
    with pytest.raises(ArgumentTypeError, match="epsilon"):
        epsilon(text)


def test_radii_of_tests_may_be_long_since_the_norm_decides():
    assert radius("2") == read_by_name({"epsilons": ["2"]})["epsilons"][0] == 2
    for text in ("-1/255", "nan", "inf"):
        with pytest.raises(ArgumentTypeError, match=f"got {text}"):
            radius(text)


def test_grey_levels_are_recognised():
    with pytest.raises(ArgumentTypeError, match="for 8 grey levels pass 8/255"):
        epsilon("8")


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("300", 300),
        ("90s", 90),
        ("5m", 300),
        ("1h30m", 5400),
        ("1.5h", 5400),
        ("1h2m3s", 3723),
        ("2M", 120),
        ("1h5", 3605),
    ],
)
def test_durations(text, seconds):
    assert duration(text) == seconds


@pytest.mark.parametrize("text", ["", "m", "5x", "5m1h", "-5m", "0", "0s", "five"])
def test_what_is_no_duration(text):
    with pytest.raises(ArgumentTypeError, match="time"):
        duration(text)


def test_yaml_values_are_read_by_their_names():
    values = {
        "training": {"epsilon": "8/255", "max_time": "5m", "schedule": "5m"},
        "epsilons": [0, "1/255"],
        "category": "1/2",
    }
    assert read_by_name(values) == {
        "training": {"epsilon": 8 / 255, "max_time": 300, "schedule": "5m"},
        "epsilons": [0, 1 / 255],
        "category": "1/2",
    }


def test_the_radii_of_a_universal_perturbation_are_written_as_all_radii():
    from robustad.cli.test import build

    parsed = build().parse(["somewhere", "--universal", "2/255", "0.1", "--epsilons", "2/255"])
    assert parsed.universal == [2 / 255, 0.1] and parsed.epsilons == [2 / 255]
