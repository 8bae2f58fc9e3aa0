"""The dataset class: what an item holds, the published variant, and the cache."""

import multiprocessing
import os
import pickle

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from robustad.data import ImageDataset, Sample
from robustad.data import dataset as dataset_module
from robustad.errors import ImageError


def make(path, *, label=False, mask=None, foreground=None, **more):
    return Sample(path, label, mask, foreground, path.name, path.name, **more)


@pytest.fixture
def samples(tmp_path, picture):
    half = np.zeros((10, 12), np.uint8)
    half[:, 6:] = 255
    return [
        make(picture(tmp_path / "normal.png"), foreground=picture(tmp_path / "fg.png", half)),
        make(picture(tmp_path / "marked.png"), label=True, mask=picture(tmp_path / "marked_mask.png", half)),
        make(picture(tmp_path / "unmarked.png"), label=True),
        make(picture(tmp_path / "blank.png"), label=True, mask=picture(tmp_path / "blank_mask.png", 0)),
    ]


def test_items(samples):
    items = list(ImageDataset(samples, 8))
    assert [item["index"] for item in items] == [0, 1, 2, 3]
    assert [item["label"] for item in items] == [False, True, True, True]
    assert [item["has_mask"] for item in items] == [True, True, False, False]  # an empty mask of a defect is no mask
    for item in items:
        assert (item["image"].dtype, item["image"].shape) == (torch.uint8, (3, 8, 8))
        assert (item["mask"].dtype, item["mask"].shape) == (torch.bool, (8, 8))
        assert (item["foreground"].dtype, item["foreground"].shape) == (torch.bool, (8, 8))
    right = torch.zeros(8, 8, dtype=torch.bool)
    right[:, 4:] = True
    assert torch.equal(items[0]["foreground"], right)
    assert torch.equal(items[1]["mask"], right)
    assert not items[0]["mask"].any()
    assert items[1]["foreground"].all()
    expected = np.asarray(Image.open(samples[0].path).resize((8, 8), Image.Resampling.LANCZOS))
    np.testing.assert_array_equal(items[0]["image"].permute(1, 2, 0).numpy(), expected)


def test_indices(samples):
    dataset = ImageDataset(samples, 8)
    assert len(dataset) == 4
    assert dataset[-1]["index"] == 3
    with pytest.raises(IndexError):
        dataset[4]
    with pytest.raises(ValueError, match="image_size"):
        ImageDataset(samples, 0)


def test_crop_applies_to_all_parts(tmp_path, picture):
    pixels = np.arange(10 * 12, dtype=np.uint8).reshape(10, 12)
    mask = np.zeros((10, 12), np.uint8)
    mask[2, 3] = 255
    sample = make(
        picture(tmp_path / "a.png", pixels),
        label=True,
        mask=picture(tmp_path / "m.png", mask),
        foreground=picture(tmp_path / "f.png", 255 - mask),
        crop=(3, 2, 7, 6),
    )
    item = ImageDataset([sample], 4)[0]
    np.testing.assert_array_equal(item["image"][0].numpy(), pixels[2:6, 3:7])
    assert item["mask"].nonzero().tolist() == [[0, 0]]
    assert (~item["foreground"]).nonzero().tolist() == [[0, 0]]


def test_mask_of_another_size_is_an_error(samples, tmp_path, picture):
    small = picture(tmp_path / "small.png", 255, size=(6, 5))
    for wrong in (samples[1]._replace(mask_path=small), samples[0]._replace(foreground_path=small)):
        with pytest.raises(ImageError, match=r"small\.png is 6 x 5 pixels but .*\.png is 12 x 10"):
            ImageDataset([wrong], 8)[0]


def test_published_masks_inflate(tmp_path, picture):
    mask = np.zeros((60, 60), np.uint8)
    mask[20:30, 20:30] = 255
    sample = make(
        picture(tmp_path / "a.png", size=(60, 60)),
        label=True,
        mask=picture(tmp_path / "m.png", mask),
        foreground=picture(tmp_path / "f.png", 254, size=(60, 60)),
    )
    ours, published = ImageDataset([sample], 20)[0], ImageDataset([sample], 20, published=True)[0]
    assert published["mask"].sum() > ours["mask"].sum() > 0
    assert ours["foreground"].all()
    assert not published["foreground"].any()  # 254 is not 255 for the published code


def same(left, right):
    return all(torch.equal(torch.as_tensor(left[key]), torch.as_tensor(right[key])) for key in left)


def test_cache_gives_the_same_items_and_reads_files_once(samples, tmp_path, monkeypatch):
    plain = ImageDataset(samples, 8)
    cached = ImageDataset(samples, 8, tmp_path / "cache")
    assert all(same(a, b) for a, b in zip(plain, cached, strict=True))
    monkeypatch.setattr(dataset_module, "read_image", None)  # reading again would fail
    again = ImageDataset(samples, 8, tmp_path / "cache")
    assert all(same(a, b) for a, b in zip(cached, again, strict=True))
    assert len(list((tmp_path / "cache").iterdir())) == 1


def test_cache_items_do_not_write_through(samples, tmp_path):
    dataset = ImageDataset(samples, 8, tmp_path / "cache")
    before = dataset[0]["image"].clone()
    dataset[0]["image"].zero_()
    assert torch.equal(dataset[0]["image"], before)


def test_cache_follows_content_and_transform(samples, tmp_path, picture):
    cache = tmp_path / "cache"
    ImageDataset(samples, 8, cache)
    ImageDataset(samples, 9, cache)
    ImageDataset(samples, 8, cache, published=True)
    ImageDataset(samples[:2], 8, cache)
    assert len(list(cache.iterdir())) == 4
    picture(samples[0].path, 200)
    assert (ImageDataset(samples, 8, cache)[0]["image"] == 200).all()
    assert len(list(cache.iterdir())) == 5


def test_cache_notices_a_change_that_keeps_the_size(tmp_path, picture):
    path = picture(tmp_path / "a.bmp", 100)
    assert (ImageDataset([make(path)], 8, tmp_path / "cache")[0]["image"] == 100).all()
    size = path.stat().st_size
    picture(path, 200)
    os.utime(path, ns=(1, 1))
    assert path.stat().st_size == size
    assert (ImageDataset([make(path)], 8, tmp_path / "cache")[0]["image"] == 200).all()


@pytest.mark.parametrize("damage", ["cut", "garbage", "other shape", "empty"])
def test_a_damaged_cache_is_built_anew(samples, tmp_path, damage):
    dataset = ImageDataset(samples, 8, tmp_path / "cache")
    expected = [dataset[index] for index in range(4)]
    (path,) = (tmp_path / "cache").iterdir()
    if damage == "other shape":
        np.save(path, np.zeros((1, 2), np.uint8))
    else:
        path.write_bytes({"cut": path.read_bytes()[:300], "garbage": b"x" * 900, "empty": b""}[damage])
    again = ImageDataset(samples, 8, tmp_path / "cache")
    assert all(same(a, b) for a, b in zip(expected, again, strict=True))


def test_a_failed_build_leaves_nothing(samples, tmp_path):
    samples[2].path.write_bytes(b"")
    with pytest.raises(ImageError, match="0 bytes"):
        ImageDataset(samples, 8, tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []


def test_a_full_disk_is_an_error(samples, tmp_path, monkeypatch):
    """A mapped file would end the process with a signal."""
    mapped = np.lib.format.open_memmap

    def for_reading(path, mode="r+", **options):
        assert mode == "r"
        return mapped(path, mode=mode, **options)

    monkeypatch.setattr(np.lib.format, "open_memmap", for_reading)
    dataset = ImageDataset(samples, 8, tmp_path / "cache")
    assert same(dataset[1], ImageDataset(samples, 8)[1])


def build_and_sum(samples, cache, barrier, results):
    barrier.wait()
    results.put(sum(int(item["image"].sum()) for item in ImageDataset(samples, 8, cache)))


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_two_processes_may_build_at_once(samples, tmp_path):
    context = multiprocessing.get_context("fork")
    barrier, results = context.Barrier(2), context.Queue()
    processes = [
        context.Process(target=build_and_sum, args=(samples * 20, tmp_path / "cache", barrier, results))
        for _ in range(2)
    ]
    for process in processes:
        process.start()
    sums = [results.get(timeout=60) for _ in processes]
    for process in processes:
        process.join()
    assert sums[0] == sums[1] == sum(int(item["image"].sum()) for item in ImageDataset(samples * 20, 8))
    assert len(list((tmp_path / "cache").iterdir())) == 1


def test_pickle_carries_no_pixels_and_a_loader_stacks(samples, tmp_path):
    dataset = ImageDataset(samples * 50, 32, tmp_path / "cache")
    dataset[0]
    data = pickle.dumps(dataset)
    assert len(data) < 40_000
    assert same(pickle.loads(data)[1], dataset[1])  # noqa: S301
    (batch,) = DataLoader(dataset, batch_size=200)
    assert batch["image"].shape == (200, 3, 32, 32)
    assert batch["label"].dtype == batch["has_mask"].dtype == torch.bool
    assert batch["index"].tolist() == list(range(200))
