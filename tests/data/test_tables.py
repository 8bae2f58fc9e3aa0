"""elpv and VisA's official split."""

from collections import Counter
from itertools import pairwise

import pytest

from robustad.data import ImageDataset, load_samples, tables
from robustad.data.modules import module_of
from robustad.data.partition import committed
from robustad.errors import LayoutError, MissingExtra


def test_elpv_leaves_doubtful_cells_out_and_shares_its_halves_between_seeds():
    pytest.importorskip("elpv_dataset")
    splits = [load_samples("elpv", category="mono", seed=seed) for seed in range(2)]
    for split in splits:
        assert len(split.train) == 470
        assert [s.label for s in split.test] == [False] * 118 + [True] * 313
        assert not {s.name for s in split.train} & {s.name for s in split.test}
        assert not any(s.label for s in split.train)
    assert {s.name for s in splits[0].train} != {s.name for s in splits[1].train}
    for seed, split in enumerate(splits):
        for part in ("dev", "final"):
            half = load_samples("elpv", category="mono", seed=seed, part=part)
            assert half.train == split.train
            assert half.test == [s for s in split.test if s.name in set(committed("elpv")["parts"][part])]
    poly = load_samples("elpv", category="poly")
    assert (len(poly.train), len(poly.test)) == (736, 184 + 402)


def test_committed_elpv_halves_are_even_in_each_class():
    pytest.importorskip("elpv_dataset")
    dev, final = (set(committed("elpv")["parts"][part]) for part in ("dev", "final"))
    assert not dev & final
    for category in ("mono", "poly"):
        for samples in tables.read_elpv(None, category)[:2]:
            in_dev = sum(sample.name in dev for sample in samples)
            assert in_dev == len(samples) // 2
            assert all(sample.name in dev | final for sample in samples)


def test_elpv_modules_are_as_many_and_as_large_as_they_are():
    ranges, parts = committed("elpv")["ranges"], committed("elpv")["groups"]
    assert Counter(name.partition("-")[0] for name in ranges) == {"mono": 18, "poly": 26}
    assert set(ranges) == set(parts)
    ends = sorted(ranges.values())
    assert ends[0][0] == 1 and ends[-1][1] == 2624
    assert all(after[0] == before[1] + 1 for before, after in pairwise(ends))
    assert Counter(last - first + 1 for first, last in ranges.values()).most_common(1)[0] == (60, 38)


@pytest.mark.parametrize("kind", ["mono", "poly"])
def test_elpv_new_modules_are_unknown_to_the_training(kind):
    pytest.importorskip("elpv_dataset")
    category = f"{kind}-new-modules"
    whole = load_samples("elpv", category=category)
    halves = [
        load_samples("elpv", category=category, part=part, seed=seed) for seed, part in enumerate(("dev", "final"))
    ]
    assert all(half.train == whole.train for half in halves) and not whole.set_aside
    assert sorted(halves[0].test + halves[1].test) == sorted(whole.test)
    groups = [{sample.group for sample in samples} for samples in (whole.train, halves[0].test, halves[1].test)]
    assert not groups[0] & groups[1] and not groups[0] & groups[2] and not groups[1] & groups[2]
    assert all(sample.group == module_of(sample) and sample.group.startswith(kind) for sample in whole.train)
    known = {sample.name for sample in load_samples("elpv", category=kind).train}
    normals = [sample for sample in whole.train + whole.test if not sample.label]
    assert known < {sample.name for sample in normals} and not any(sample.label for sample in whole.train)
    assert 0.6 <= len(whole.train) / len(normals) < 0.7
    assert all(min(Counter(sample.label for sample in half.test).values()) > 100 for half in halves)


def test_elpv_modules_of_other_files(tmp_path):
    rows = [f"images/my{index}.png {float(index > 4)} mono" for index in range(10)]
    (tmp_path / "labels.csv").write_text("\n".join(rows))
    with pytest.raises(LayoutError, match="no cell number"):
        load_samples("elpv", tmp_path, category="mono-new-modules")
    (tmp_path / "labels.csv").write_text("\n".join(row.replace("my", "cell999") for row in rows))
    with pytest.raises(LayoutError, match="not in the committed split of elpv"):
        load_samples("elpv", tmp_path, category="mono-new-modules")


def test_elpv_items_have_no_mask():
    pytest.importorskip("elpv_dataset")
    split = load_samples("elpv", category="mono")
    item = ImageDataset(split.test[-1:], 32)[0]
    assert item["label"]
    assert not item["has_mask"]
    assert not item["mask"].any()


def test_elpv_without_its_package(monkeypatch):
    monkeypatch.setattr(tables, "find_spec", lambda name: None)
    with pytest.raises(MissingExtra, match=r'pip install "robustad\[demo\]"'):
        load_samples("elpv", category="mono")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "lists no mono cells"),
        ("images/cell0001.png half mono\n", "line 1"),
        ("images/cell0001.png 1.0\n", "line 1"),
        ("../../secret.png 1.0 mono\nimages/cell0002.png 0.0 mono", "points outside"),
    ],
)
def test_elpv_broken_table(tmp_path, text, message):
    (tmp_path / "labels.csv").write_text(text)
    with pytest.raises(LayoutError, match=message):
        load_samples("elpv", tmp_path, category="mono")


def test_elpv_other_files_than_committed(tmp_path):
    rows = [f"images/my{index}.png {float(index > 4)} mono" for index in range(10)]
    (tmp_path / "labels.csv").write_text("\n".join(rows))
    assert len(load_samples("elpv", tmp_path, category="mono").test) == 6
    with pytest.raises(LayoutError, match="not in the committed split"):
        load_samples("elpv", tmp_path, category="mono", part="dev")


VISA_CSV = """object,split,label,image,mask
pcb1,train,normal,pcb1/Data/Images/Normal/0000.JPG,
pcb1,train,normal,pcb1/Data/Images/Normal/0001.JPG,
pcb1,test,normal,pcb1/Data/Images/Normal/0002.JPG,
pcb1,test,anomaly,pcb1/Data/Images/Anomaly/000.JPG,pcb1/Data/Masks/Anomaly/000.png
candle,test,anomaly,candle/Data/Images/Anomaly/000.JPG,candle/Data/Masks/Anomaly/000.png
"""


def write_visa(root, text=VISA_CSV):
    (root / "split_csv").mkdir(exist_ok=True)
    (root / "split_csv" / "1cls.csv").write_text(text)


def test_visa_official_split(tmp_path, picture):
    write_visa(tmp_path)
    foreground = picture(tmp_path / "pcb1/Data/Images/foreground_mask/0001.JPG", 255)
    split = load_samples("visa-csv", tmp_path, category="pcb1")
    assert [s.name for s in split.train] == [f"pcb1/Data/Images/Normal/000{i}.JPG" for i in (0, 1)]
    assert [s.foreground_path for s in split.train] == [None, foreground]
    assert [(s.name, s.label) for s in split.test] == [
        ("pcb1/Data/Images/Normal/0002.JPG", False),
        ("pcb1/Data/Images/Anomaly/000.JPG", True),
    ]
    assert split.test[1].mask_path == tmp_path / "pcb1/Data/Masks/Anomaly/000.png"


def test_visa_broken_tables(tmp_path):
    with pytest.raises(LayoutError, match=r"1cls\.csv does not exist"):
        load_samples("visa-csv", tmp_path, category="pcb1")
    write_visa(tmp_path)
    with pytest.raises(LayoutError, match=r"'cashew' does not exist in .* it holds candle, pcb1"):
        load_samples("visa-csv", tmp_path, category="cashew")
    with pytest.raises(LayoutError, match=r"`category` is missing; .* holds candle, pcb1"):
        load_samples("visa-csv", tmp_path)
    write_visa(tmp_path, "a,b\n1,2\n")
    with pytest.raises(LayoutError, match="must have the columns"):
        load_samples("visa-csv", tmp_path, category="pcb1")
    write_visa(tmp_path, VISA_CSV.replace("pcb1,train,normal,", "pcb1,train,anomaly,"))
    with pytest.raises(LayoutError, match="trains on anomalous"):
        load_samples("visa-csv", tmp_path, category="pcb1")
    write_visa(tmp_path, VISA_CSV.replace("pcb1/Data/Images/Normal/0000.JPG", "/etc/0000.JPG"))
    with pytest.raises(LayoutError, match="points outside"):
        load_samples("visa-csv", tmp_path, category="pcb1")


@pytest.mark.parametrize("data", ["elpv", "digits"])
def test_category_is_needed(data, tmp_path):
    with pytest.raises(LayoutError, match="`category` is missing; choose one of"):
        load_samples(data, tmp_path)
