import dataclasses

import pytest

from robustad.cli.faults import UsageError
from robustad.cli.options import chosen_recipe, instantiate, nested_defaults
from robustad.cli.parsing import Parser


@dataclasses.dataclass(frozen=True, kw_only=True)
class Inner:
    """Inner options.

    Attributes:
        epsilon: Radius.
        max_time: Seconds.
        weights: By name.
        layers: Numbers.
    """

    epsilon: float = 0.1
    max_time: float | None = None
    weights: dict[str, float] = dataclasses.field(default_factory=lambda: {"a": 1.0})
    layers: tuple[int, ...] = (1, 2)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Outer:
    """Outer options.

    Attributes:
        name: A name.
        inner: More.
    """

    name: str = "x"
    inner: Inner = dataclasses.field(default_factory=Inner)


def parser():
    found = Parser("probe", "Test.", short_forms={"--epsilon": "inner.epsilon", "--max-time": "inner.max_time"})
    found.add_argument("paths", type=str, nargs="*")
    found.add_argument("--epsilons", type=float, nargs="+", default=[0.0])
    found.add_argument("--fast", action="store_true")
    found.add_config(Outer)
    return found


def outer(*words):
    return instantiate(Outer, parser().parse(words))


def test_defaults_are_those_of_the_dataclass():
    assert outer() == Outer()


def test_another_instance_can_give_the_defaults():
    found = parser()
    found.set_defaults(nested_defaults(Outer(name="y", inner=Inner(epsilon=0.2, weights={"b": 2.0}, layers=()))))
    expected = Outer(name="z", inner=Inner(epsilon=0.2, weights={"b": 2.0}, layers=()))
    assert instantiate(Outer, found.parse(["--name", "z"])) == expected


@pytest.mark.parametrize(
    "words", [["--epsilon", "8/255"], ["--epsilon=8/255"], ["--inner.epsilon", "8/255"], ["--inner.epsilon=8/255"]]
)
def test_short_and_dotted_flags_are_one(words):
    assert outer(*words).inner.epsilon == 8 / 255


def test_the_last_one_counts_and_words_after_a_value_are_not_numbers():
    arguments = parser().parse(["--epsilon", "1/255", "8/255", "5m", "--max-time", "1h", "--epsilon", "2/255"])
    assert arguments.inner.epsilon == 2 / 255 and arguments.inner.max_time == 3600
    assert list(arguments.paths) == ["8/255", "5m"]


def test_several_radii_in_a_row():
    assert list(parser().parse(["--epsilons", "0", "1/255", "0.5", "--fast"]).epsilons) == [0, 1 / 255, 0.5]


def test_a_file_and_flags_over_it(tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text(
        "name: '01'\ninner:\n  epsilon: 4/255\n  max_time: 5m\n  weights: {c: 3}\nepsilons: [0, 2/255]\nfast: true\n"
    )
    arguments = parser().parse(["--config", str(path), "--max-time", "90s"])
    expected = Outer(name="01", inner=Inner(epsilon=4 / 255, max_time=90, weights={"c": 3.0}))
    assert instantiate(Outer, arguments) == expected
    assert list(arguments.epsilons) == [0, 2 / 255] and arguments.fast


def test_text_that_looks_like_a_number_stays_text():
    assert outer("--name", "01").name == "01"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("zork: 1", r"unknown key 'zork' .*known keys: epsilons, fast, inner, name, paths"),
        (
            "inner: {epsilonn: 1}",
            r"'inner\.epsilonn'.*mean 'inner\.epsilon'\?.*'inner': epsilon, layers, max_time, weights",
        ),
        ("- 1", "must hold"),
        ("a: [", "is not YAML"),
        ("inner: {epsilon: 8}", None),
        ("inner: {epsilon: many}", "8/255"),
        ("inner: {layers: word}", "layers"),
    ],
)
def test_files_that_are_wrong(tmp_path, text, message):
    path = tmp_path / "c.yaml"
    path.write_text(text)
    if message is None:
        parser().parse(["--config", str(path)])  # a value's own rule is checked by its dataclass
        return
    with pytest.raises(UsageError, match=message) as caught:
        parser().parse([f"--config={path}"])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--config", "none.yaml"], "none.yaml does not exist"),
        (["--zork"], "--zork"),
        (["--eps", "1"], "--eps"),
        (["--inner.epsilon", "x"], "8/255"),
        (["--inner.layers", "x"], "--inner.layers"),
        (["--max-time", "soon"], "1h30m"),
        (["--name"], "--name"),
    ],
)
def test_words_that_are_wrong(words, message):
    with pytest.raises(UsageError) as caught:
        parser().parse(words)
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_the_recipe_of_a_command_line(tmp_path):
    (tmp_path / "c.yaml").write_text("recipe: published")
    assert chosen_recipe(["--x", "1"]) == "default"
    assert chosen_recipe(["--config", str(tmp_path / "c.yaml")]) == "published"
    assert chosen_recipe(["--recipe=default", f"--config={tmp_path / 'c.yaml'}"]) == "published", "the later one wins"
    assert chosen_recipe([f"--config={tmp_path / 'c.yaml'}", "--recipe=default"]) == "default"
    assert chosen_recipe(["--recipe=default", "--recipe", "texture"]) == "texture"
    assert chosen_recipe(["--config", str(tmp_path / "none.yaml")]) == "default"
