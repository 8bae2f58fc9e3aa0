"""Classes: one normal or all; other datasets as anomalies; each kind of anomaly by itself."""

import numpy as np
import pytest
from sklearn.datasets import load_digits
from vision_doubles import write_cifar10, write_idx

from robustad.data import ImageDataset, against_each, check_dataset, load_multiclass, load_samples
from robustad.errors import LayoutError
from robustad.images import read_image


def test_digits(tmp_path):
    split = load_samples("digits", tmp_path, category="3")
    source = load_digits()
    assert len(split.train) + sum(not s.label for s in split.test) == (source.target == 3).sum()
    assert sum(s.label for s in split.test) == (source.target != 3).sum()
    sample = split.train[0]
    index = int(sample.path.stem)
    assert source.target[index] == 3
    np.testing.assert_allclose(read_image(sample.path)[..., 0], source.images[index] * 255 / 16, atol=0.5)
    written = sample.path.stat().st_mtime_ns
    sample.path.with_name("9999.png").touch()  # not ours: neither read nor removed
    assert load_samples("digits", tmp_path, category="3") == split
    assert sample.path.stat().st_mtime_ns == written
    split.test[0].path.unlink()
    load_samples("digits", tmp_path, category="3")
    assert split.test[0].path.is_file()


def test_all_digits_are_normal(tmp_path):
    split = load_samples("digits", tmp_path, category="all")
    assert (len(split.train), len(split.test)) == (1797 - 359, 359)
    assert not any(sample.label for sample in split.train + split.test)
    assert {sample.kind for sample in split.train} == {sample.kind for sample in split.test} == set("0123456789")
    for sample in split.test:
        assert sample.kind == sample.path.parent.name


def test_an_unknown_class_lists_the_known_ones(tmp_path):
    with pytest.raises(ValueError, match="`category` must be one of 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, all; got 'ten'"):
        load_samples("digits", tmp_path, category="ten")
    with pytest.raises(ValueError, match=r"`category` must be one of airplane, all, automobile.*got 'aeroplane'; did"):
        load_samples("cifar10", tmp_path, category="aeroplane")


def test_each_class_against_the_normal_one(tmp_path):
    split = load_samples("digits", tmp_path, category="3")
    pairs = against_each(split.test)
    assert list(pairs) == [kind for kind in "0123456789" if kind != "3"]
    normals = [index for index, sample in enumerate(split.test) if not sample.label]
    for kind, positions in pairs.items():
        assert positions == sorted(positions)
        assert [index for index in positions if not split.test[index].label] == normals
        assert {split.test[index].kind for index in positions if split.test[index].label} == {kind}
    assert sum(len(positions) - len(normals) for positions in pairs.values()) == sum(s.label for s in split.test)


def test_defects_of_a_product_are_kinds_too(tmp_path, picture):
    for name in ("train/good/0", "test/good/0", "test/crack/0", "test/dent/0", "test/dent/1"):
        picture(tmp_path / f"screw/{name}.png")
    assert against_each(load_samples("mvtec", tmp_path, category="screw").test) == {"crack": [0, 1], "dent": [0, 2, 3]}
    assert against_each([]) == {}


def test_other_datasets_are_the_anomalies(tmp_path, monkeypatch):
    monkeypatch.setenv("ROBUSTAD_DATA", str(tmp_path))
    write_idx(tmp_path / "mnist")
    write_cifar10(tmp_path / "elsewhere", monkeypatch)
    split = load_multiclass("digits", ["mnist", "cifar10"], against_roots={"cifar10": tmp_path / "elsewhere"})
    own = load_samples("digits", category="all")
    assert split.train == own.train
    assert split.test[: len(own.test)] == own.test
    others = split.test[len(own.test) :]
    assert [sample.kind for sample in others] == ["mnist"] * 10 + ["cifar10"] * 10
    assert all(sample.label and sample.name.startswith(f"{sample.kind}/test/") for sample in others)
    assert all(sample.group == sample.name for sample in others)
    names = [sample.name for sample in split.train + split.test]
    assert len(set(names)) == len(names)
    assert {kind: len(found) for kind, found in against_each(split.test).items()} == {"mnist": 369, "cifar10": 369}
    for sample, size in ((own.test[0], 8), (others[0], 28), (others[-1], 32)):
        assert read_image(sample.path).shape == (size, size, 3)
        assert ImageDataset([sample], 16)[0]["image"].shape == (3, 16, 16)


def test_halves_are_those_of_each_dataset(tmp_path, monkeypatch):
    monkeypatch.setenv("ROBUSTAD_DATA", str(tmp_path))
    write_idx(tmp_path / "mnist")
    whole, dev, final = (load_multiclass("digits", ["mnist"], part=part) for part in ("all", "dev", "final"))
    assert dev.train == final.train == whole.train
    assert not set(dev.test) & set(final.test)
    assert set(dev.test) | set(final.test) == set(whole.test)
    alone = load_samples("mnist", category="all", part="dev").test
    assert [s.name for s in dev.test if s.label] == [f"mnist/{s.name}" for s in alone]


@pytest.mark.parametrize(
    ("data", "against", "message"),
    [
        ("mvtec", ["digits"], "`data` must be one of cifar10, cifar100, digits"),
        ("digits", ["mvtec"], "`against` must be one of cifar10, cifar100, digits"),
        ("digits", [], "names no dataset; choose among cifar10"),
        ("digits", ["digits"], "other datasets than 'digits'"),
        ("digits", ["mnist", "mnist"], "each once"),
    ],
)
def test_what_cannot_stand_against_what(data, against, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        load_multiclass(data, against, root=tmp_path)


def test_a_missing_dataset_says_how_to_get_it(tmp_path, monkeypatch):
    monkeypatch.setenv("ROBUSTAD_DATA", str(tmp_path))
    with pytest.raises(LayoutError, match=r"'svhn' is not in .*run: robustad download svhn"):
        load_multiclass("digits", ["svhn"])


def test_a_check_reads_each_picture_once(tmp_path, monkeypatch):
    write_cifar10(tmp_path, monkeypatch)
    read = []
    monkeypatch.setattr("robustad.data.check.read_image", lambda path: read.append(path) or read_image(path))
    assert check_dataset("cifar10", tmp_path) == []
    assert len(read) == len(set(read)) == 30
    picture = next((tmp_path / "cifar10-png" / "train" / "cat").iterdir())
    picture.write_bytes(b"")
    assert [problem.path for problem in check_dataset("cifar10", tmp_path)] == [picture]
