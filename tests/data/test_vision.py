"""Datasets of torchvision, from files in their true formats."""

from urllib.error import URLError

import numpy as np
import pytest
from torchvision import datasets
from vision_doubles import SUPERCLASSES, write_cifar10, write_idx, write_vision

from robustad.data import CATALOG, load_samples
from robustad.data._addresses import load_addresses
from robustad.data.download import download_dataset
from robustad.data.vision import VISION
from robustad.errors import DownloadError, LayoutError
from robustad.images import read_image


def number_of(sample):
    return int(sample.path.stem)


def same(sample, pictures):
    wanted = pictures[number_of(sample)]
    np.testing.assert_array_equal(read_image(sample.path), wanted if wanted.ndim == 3 else np.stack([wanted] * 3, -1))


@pytest.mark.parametrize("data", ["cifar10", "mnist", "fashion-mnist", "svhn"])
def test_ten_classes(data, tmp_path, monkeypatch):
    train, test = write_vision(data, tmp_path, monkeypatch)
    for label, category in enumerate(CATALOG[data].categories):
        split = load_samples(data, tmp_path, category=category)
        assert [number_of(s) for s in split.train] == [label, label + 10]  # the official split is kept
        assert [s.label for s in split.test] == [False] + [True] * 9
        assert number_of(split.test[0]) == label
        assert {s.kind for s in split.test[1:]} == set(CATALOG[data].categories) - {category}
        for sample in split.train:
            assert (sample.kind, sample.label, sample.group) == (category, False, sample.name)
            same(sample, train)
        for sample in split.test:
            assert sample.kind == CATALOG[data].categories[number_of(sample)]
            assert sample.name == f"test/{sample.kind}/{number_of(sample):05d}.png"
            same(sample, test)
    everything = load_samples(data, tmp_path, category="all")
    assert (len(everything.train), len(everything.test)) == (20, 10)
    assert not any(sample.label for sample in everything.train + everything.test)


def test_superclasses(tmp_path, monkeypatch):
    train, test = write_vision("cifar100", tmp_path, monkeypatch)
    for category, numbers in zip(CATALOG["cifar100"].categories, SUPERCLASSES, strict=True):
        split = load_samples("cifar100", tmp_path, category=category)
        assert [number_of(sample) for sample in split.train] == list(numbers)
        assert sorted(number_of(sample) for sample in split.test if not sample.label) == list(numbers)
        assert sum(sample.label for sample in split.test) == 95
    for sample in split.train:
        same(sample, train)
    for sample in split.test:
        same(sample, test)


def test_pictures_are_written_once(tmp_path, monkeypatch):
    write_cifar10(tmp_path, monkeypatch)
    before = load_samples("cifar10", tmp_path, category="cat")
    written = before.test[0].path.stat().st_mtime_ns
    before.test[1].path.unlink()
    assert load_samples("cifar10", tmp_path, category="cat") == before  # what is gone is written again, nothing else
    assert before.test[1].path.is_file()
    assert before.test[0].path.stat().st_mtime_ns == written
    for path in (tmp_path / "cifar-10-batches-py").iterdir():
        path.unlink()
    assert load_samples("cifar10", tmp_path, category="cat") == before
    before.test[1].path.unlink()
    with pytest.raises(LayoutError, match="missing or damaged"):
        load_samples("cifar10", tmp_path, category="cat")


def test_an_interrupted_writing_goes_on(tmp_path, monkeypatch):
    write_cifar10(tmp_path, monkeypatch)
    whole = load_samples("cifar10", tmp_path, category="all")
    (tmp_path / "cifar10-png" / "pictures.txt").unlink()
    for sample in whole.test:
        sample.path.unlink()
    assert load_samples("cifar10", tmp_path, category="all") == whole
    assert not list((tmp_path / "cifar10-png").glob(".part-*"))


def test_several_datasets_share_a_root(tmp_path, monkeypatch):
    for data in VISION:
        write_vision(data, tmp_path, monkeypatch)
    counts = {data: len(load_samples(data, tmp_path, category="all").train) for data in VISION}
    assert counts == {"cifar10": 20, "cifar100": 100, "mnist": 20, "fashion-mnist": 20, "svhn": 20}
    assert len(load_samples("mnist", tmp_path, category="all").train) == 20


@pytest.mark.parametrize("data", VISION)
def test_missing_files_say_what_to_do(data, tmp_path):
    with pytest.raises(
        LayoutError, match=rf"\({VISION[data].files}\) are missing .*robustad download {data} --root"
    ) as caught:
        load_samples(data, tmp_path, category="all")
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_damaged_files_say_what_to_do(tmp_path, monkeypatch):
    write_cifar10(tmp_path / "a", monkeypatch)
    (tmp_path / "a" / "cifar-10-batches-py" / "test_batch").write_bytes(b"another pickle")  # never loaded
    write_idx(tmp_path / "b")
    labels = tmp_path / "b" / "MNIST" / "raw" / "train-labels-idx1-ubyte"
    labels.write_bytes(labels.read_bytes()[:-1] + b"\x0b")  # a label that does not exist
    write_idx(tmp_path / "c")
    images = tmp_path / "c" / "MNIST" / "raw" / "train-images-idx3-ubyte"
    images.write_bytes(images.read_bytes()[:100])
    for data, root in (("cifar10", "a"), ("mnist", "b"), ("mnist", "c")):
        with pytest.raises(LayoutError, match=f"the files of {data} .* damaged"):
            load_samples(data, tmp_path / root, category="all")


def test_downloads_are_left_to_torchvision(tmp_path, monkeypatch):
    monkeypatch.setenv("ROBUSTAD_DATA", str(tmp_path))
    monkeypatch.setattr(datasets.CIFAR10, "download", lambda self: write_cifar10(tmp_path / "cifar10", monkeypatch))
    assert download_dataset("cifar10") == tmp_path / "cifar10"
    assert len(load_samples("cifar10", category="all").train) == 20
    monkeypatch.setattr(datasets.CIFAR10, "download", None)  # calling it would fail
    assert download_dataset("cifar10") == tmp_path / "cifar10"


def test_a_failed_download_is_one_line(tmp_path, monkeypatch):
    def fail(self):
        raise URLError("no\nroute to host")

    monkeypatch.setattr(datasets.MNIST, "download", fail)
    with pytest.raises(DownloadError, match=r"cannot download mnist .*no route to host.*put MNIST/raw there") as caught:
        download_dataset("mnist", tmp_path)
    assert "\n" not in str(caught.value)


def test_the_table_of_addresses_agrees():
    rows = {row.dataset: row for row in load_addresses() if row.how == "torchvision"}
    assert {name: row.address for name, row in rows.items()} == {name: one.reader for name, one in VISION.items()}
    for name, row in rows.items():
        assert VISION[name].files.startswith(row.present)
        assert row.fetched and row.page
