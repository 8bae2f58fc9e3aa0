"""Which images a workflow is about."""

import itertools
import os
import struct
from pathlib import Path

import pytest

from robustad._random import derive_seed
from robustad.data import Sample, load_multiclass
from robustad.workflows._data import DataConfig, fingerprint, images_of, load_split, thinned


def write_mnist(root):
    """Two black pictures per part."""
    folder = root / "MNIST" / "raw"
    folder.mkdir(parents=True)
    for part in ("train", "t10k"):
        (folder / f"{part}-images-idx3-ubyte").write_bytes(struct.pack(">IIII", 2051, 2, 28, 28) + bytes(2 * 28 * 28))
        (folder / f"{part}-labels-idx1-ubyte").write_bytes(struct.pack(">II", 2049, 2) + bytes(2))


def test_other_datasets_as_anomalies(tmp_path, monkeypatch):
    monkeypatch.setenv("ROBUSTAD_DATA", str(tmp_path))
    write_mnist(tmp_path / "mnist")
    config = DataConfig(data="digits", against="mnist")
    assert config.others == ("mnist",)
    assert config.label == "digits:all-against-mnist"
    assert DataConfig.from_dict(config.to_dict()) == config
    assert load_split(config, seed=3) == load_multiclass("digits", ["mnist"], seed=3)
    assert load_split(config, part="dev") == load_multiclass("digits", ["mnist"], part="dev")
    assert load_split(DataConfig(data="digits", category="all", against="mnist")) == load_split(config)


def test_each_dataset_is_fetched(monkeypatch):
    asked = []
    monkeypatch.setattr("robustad.data.download.download_dataset", lambda name, root: asked.append((name, root)))
    monkeypatch.setattr("robustad.workflows._data.load_multiclass", lambda *args, **options: None)
    load_split(DataConfig(data="cifar10", against="svhn, digits,mnist", root="here", download=True))
    assert asked == [("cifar10", Path("here")), ("svhn", None), ("mnist", None)]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"data": "mvtec", "against": "svhn"}, "`data` must be one of cifar10"),
        ({"data": "digits", "against": "svhm"}, "`against` must be one of .*did you mean 'svhn'"),
        ({"data": "digits", "against": ","}, "names no dataset"),
        ({"data": "digits", "against": "svhn", "category": "3"}, "leave category '3' out"),
    ],
)
def test_what_does_not_fit_together_is_an_error(options, message):
    with pytest.raises(ValueError, match=message):
        DataConfig(**options)


@pytest.mark.parametrize(
    ("normals", "anomalies", "limit", "wanted"),
    [
        (16, 784, 60, (15, 45)),
        (100, 100, 60, (30, 30)),
        (150, 50, 80, (60, 20)),
        (3, 900, 60, (3, 45)),
        (9, 9, 5, (2, 2)),
        (9, 9, 7, (4, 3)),
    ],
)
def test_thinned_keeps_proportions_and_a_quarter_of_each_class(tmp_path, normals, anomalies, limit, wanted):
    samples = [Sample(tmp_path, label, None, None, "", "") for label in [False] * normals + [True] * anomalies]
    kept = thinned(samples, limit)
    assert (sum(not s.label for s in kept), sum(s.label for s in kept)) == wanted and len(kept) <= limit


def test_what_is_known_of_test_images_depends_on_their_truth_and_their_contents(tmp_path):
    for name in ("a.bin", "b.bin", "mask.bin"):
        (tmp_path / name).write_bytes(name.encode()[:1] * 8)
    samples = [
        Sample(tmp_path / "a.bin", label=False, mask_path=None, foreground_path=None, group="a", name="a"),
        Sample(
            tmp_path / "b.bin", label=True, mask_path=tmp_path / "mask.bin", foreground_path=None, group="b", name="b"
        ),
    ]
    plain, known = fingerprint(samples), fingerprint(samples, truth=True)
    assert known == fingerprint(samples, truth=True) != plain
    boxed = [samples[0]._replace(boxes=((0, 0, 1, 1),)), samples[1]]
    assert fingerprint(boxed) == plain and fingerprint(boxed, truth=True) != known
    turned = [samples[0]._replace(label=True), samples[1]]
    assert fingerprint(turned) == plain and fingerprint(turned, truth=True) != known
    for name in ("a.bin", "mask.bin"):
        before = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(b"12345678")  # as long as before
        assert fingerprint(samples) == plain and fingerprint(samples, truth=True) != known
        (tmp_path / name).write_bytes(before)
    assert fingerprint(samples, truth=True) == known


@pytest.mark.parametrize(
    "options, text",
    [
        ({"data": "digits", "normal": "good"}, "`normal` is for images of your own; digits knows where"),
        ({"data": "mvtec", "anomalous": "bad"}, "`anomalous` is for images of your own"),
        ({"anomalous": "bad"}, "`anomalous` needs `normal`"),
        ({"root": "data", "test_normal": "more"}, "`test_normal` needs `normal`"),
        ({"root": "data", "normal": "good"}, "give one of them"),
        ({"data": "mtd", "group_by": "(a)"}, "`group_by` is for images of your own; mtd knows what its groups are"),
    ],
)
def test_an_option_that_would_be_ignored_is_an_error(options, text):
    with pytest.raises(ValueError, match=text):
        DataConfig.from_dict(options)


@pytest.mark.parametrize("named", ["root", "normal"])
def test_objects_are_never_divided(tmp_path, write_image, named):
    for part in range(12):
        for view in range(3):
            write_image(tmp_path / f"normal/{part:02}-{view}.png")
    places = {"root": tmp_path} if named == "root" else {"normal": tmp_path / "normal"}
    config = DataConfig.from_dict(DataConfig(**places, group_by="([0-9]+)-").to_dict())
    for seed in range(3):
        halves = {part: images_of(config, part=part, seed=seed) for part in ("all", "dev", "final")}
        sides = [{s.group for s in side} for side in (halves["all"].train, halves["dev"].test, halves["final"].test)]
        assert all(not a & b for a, b in itertools.combinations(sides, 2))
        assert sorted(halves["dev"].test + halves["final"].test) == sorted(halves["all"].test)
        assert len(halves["all"].test) == 9


def test_names_that_are_not_utf_8_are_names(tmp_path):
    names = [os.fsdecode(b"\xff.png"), os.fsdecode(b"\xfe.png")]
    first, second = ([Sample(tmp_path / name, False, None, None, name, name)] for name in names)
    assert fingerprint(first) != fingerprint(second)
    assert derive_seed(0, names[0]) != derive_seed(0, names[1])


def test_home_directories_are_expanded(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    config = DataConfig(normal="~/good", masks=Path("~/masks"), anomalous="bad").resolved()
    assert (config.normal, config.masks) == (tmp_path / "good", tmp_path / "masks")
    assert config.anomalous == Path("bad").absolute()


def test_of_one_class_as_many_are_taken_as_are_asked_for():
    samples = [Sample(Path(f"{n}.png"), False, None, None, str(n), f"{n}.png") for n in range(40)]
    assert len(thinned(samples, 16)) == 16
