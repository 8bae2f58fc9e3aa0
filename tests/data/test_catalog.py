"""One row per dataset, found by name and by place."""

import pytest

from robustad.data import CATALOG, LAYOUTS, data_home, default_root, load_samples
from robustad.data.vision import VISION
from robustad.errors import LayoutError


def test_every_layout_is_in_the_catalog():
    assert set(LAYOUTS) <= set(CATALOG)
    assert set(CATALOG) - set(LAYOUTS) == {"visa-csv", "deeppcb", "elpv", "digits", "folder", *VISION}
    for name, entry in CATALOG.items():
        assert entry.title
        assert entry.licence
        assert entry.image_size > 0
        assert entry.layout is LAYOUTS.get(name)


def test_categories_as_published():
    counts = {name: len(entry.categories) for name, entry in CATALOG.items() if entry.categories}
    expected = {"mvtec": 15, "visa": 12, "visa-csv": 12, "mpdd": 6, "btad": 3, "wfdd": 4, "dtd": 12}
    classes = {"digits": 10, "cifar10": 10, "cifar100": 20, "mnist": 10, "fashion-mnist": 10, "svhn": 10}
    classes["imagenet30"] = 30
    assert counts == expected | classes | {"deeppcb": 2, "elpv": 4, "dagm": 10}
    assert {name for name, entry in CATALOG.items() if entry.classes} == set(classes)


def test_unknown_names_list_the_known_ones(tmp_path):
    with pytest.raises(ValueError, match=r"brats2021, btad.*did you mean 'mvtec'"):
        load_samples("mvtech", tmp_path)
    with pytest.raises(
        ValueError, match="`category` must be one of mono, mono-new-modules, poly, poly-new-modules; got 'multi'"
    ):
        load_samples("elpv", category="multi")
    with pytest.raises(ValueError, match="`part` must be one of all, dev, final"):
        load_samples("folder", tmp_path, part="test")


def test_places(tmp_path, monkeypatch, picture):
    monkeypatch.setenv("ROBUSTAD_DATA", str(tmp_path))
    assert data_home() == tmp_path
    with pytest.raises(LayoutError, match="pass its folder as `root`"):
        default_root("headct")
    for name in ("train/good/0", "test/good/1", "test/bleeding/2"):
        picture(tmp_path / f"headct/{name}.png")
    assert default_root("headct") == tmp_path / "headct"
    assert len(load_samples("headct").train) == 1
    (tmp_path / "visa").mkdir()
    assert default_root("visa-csv") == tmp_path / "visa"
    (tmp_path / "visa-csv").mkdir()
    assert default_root("visa-csv") == tmp_path / "visa-csv"
    (tmp_path / "mtd").mkdir()
    assert default_root("mtd") == tmp_path / "mtd"
    monkeypatch.delenv("ROBUSTAD_DATA")
    assert data_home().parts[-3:] == (".cache", "robustad", "data")
