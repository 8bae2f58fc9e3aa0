import threading
import time
from pathlib import Path

import numpy as np
import pytest

from robustad.errors import ImageError
from robustad.images import read_image, resize_image
from robustad.inference import Source, picture_reader, read_ahead


def sources(count):
    return (Source(Path(f"{number}.png"), f"{number}.png") for number in range(count))


def test_order_is_kept_although_early_files_are_slow():
    def read(path):
        time.sleep(0.02 if int(path.stem) % 4 == 0 else 0)
        return int(path.stem)

    values = [read.value for read in read_ahead(sources(24), read, num_workers=4, window=8)]
    assert values == list(range(24))


def test_no_more_than_the_window_is_read_ahead_and_reading_overlaps_with_the_consumer():
    drawn = 0

    def counted():
        nonlocal drawn
        for source in sources(100):
            drawn += 1
            yield source

    started = threading.Event()

    def read(path):
        if int(path.stem) == 5:
            started.set()
        return path

    reads = read_ahead(counted(), read, num_workers=1, window=10)
    next(reads)
    assert drawn == 10
    assert started.wait(5), "files behind the first are read while the consumer has it"
    reads.close()
    assert drawn == 10


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (ImageError("x.png is cut off"), "cut off"),
        (OSError(5, "Input/output error"), "output error"),
        (MemoryError(), "memory"),
    ],
)
def test_an_error_is_a_result(error, text):
    def read(path):
        if path.stem == "1":
            raise error
        return path.stem

    found = list(read_ahead(sources(3), read))
    assert [read.value for read in found] == ["0", None, "2"]
    assert text in found[1].error and found[0].error is None


def test_a_bug_in_the_reader_is_not_taken_for_a_bad_file():
    def read(path):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        list(read_ahead(sources(1), read))


def test_a_picture_is_the_networks_input_and_a_small_copy_in_its_own_shape(tmp_path, write_image):
    path = write_image(tmp_path / "a.png", size=(100, 50))
    picture = picture_reader(32, shown_size=40)(path)
    np.testing.assert_array_equal(picture.pixels, resize_image(read_image(path), 32))
    assert picture.shown.shape == (20, 40, 3)
    assert picture_reader(32)(path).shown is None
    assert picture_reader(32, shown_size=400)(path).shown.shape == (50, 100, 3), "never enlarged"
