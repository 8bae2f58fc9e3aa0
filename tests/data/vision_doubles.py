"""Small datasets in the formats on disk that torchvision reads, written out by hand."""

import hashlib
import pickle
import struct

import numpy as np
import scipy.io
from torchvision import datasets

# the numbers of the five classes of each superclass, as the official file has them
# fmt: off
SUPERCLASSES = (
    (4, 30, 55, 72, 95), (1, 32, 67, 73, 91), (54, 62, 70, 82, 92), (9, 10, 16, 28, 61), (0, 51, 53, 57, 83),
    (22, 39, 40, 86, 87), (5, 20, 25, 84, 94), (6, 7, 14, 18, 24), (3, 42, 43, 88, 97), (12, 17, 37, 68, 76),
    (23, 33, 49, 60, 71), (15, 19, 21, 31, 38), (34, 63, 64, 66, 75), (26, 45, 77, 79, 99), (2, 11, 35, 46, 98),
    (27, 29, 44, 78, 93), (36, 50, 65, 74, 80), (47, 52, 56, 59, 96), (8, 13, 48, 58, 90), (41, 69, 81, 85, 89),
)
# fmt: on
FINE = 100


def pixels(number, shape, salt=0):
    """Pictures that all differ, uint8 ``(number, *shape)``."""
    return np.random.default_rng(salt).integers(0, 256, (number, *shape), dtype=np.uint8)


def write_cifar10(root, monkeypatch):
    """Twenty training pictures in five files, ten for the test; label = position modulo 10."""
    folder = root / "cifar-10-batches-py"
    train = pixels(20, (3, 32, 32))
    test = pixels(10, (3, 32, 32), 1)
    files = {}
    for number in range(5):
        rows = slice(4 * number, 4 * number + 4)
        content = {"data": train[rows].reshape(4, -1), "labels": [index % 10 for index in range(20)][rows]}
        files[f"data_batch_{number + 1}"] = content
    files["test_batch"] = {"data": test.reshape(10, -1), "labels": list(range(10))}
    files["batches.meta"] = {"label_names": list("abcdefghij")}
    _pickled(folder, files, datasets.CIFAR10, monkeypatch)
    return train.transpose(0, 2, 3, 1), test.transpose(0, 2, 3, 1)


def write_cifar100(root, monkeypatch):
    """Each of the hundred classes once for training and once for the test."""
    train, test = pixels(FINE, (3, 32, 32), 2), pixels(FINE, (3, 32, 32), 3)
    files = {
        name: {"data": data.reshape(FINE, -1), "fine_labels": list(range(FINE)), "coarse_labels": [0] * FINE}
        for name, data in (("train", train), ("test", test))
    }
    files["meta"] = {"fine_label_names": [str(number) for number in range(FINE)]}
    _pickled(root / "cifar-100-python", files, datasets.CIFAR100, monkeypatch)
    return train.transpose(0, 2, 3, 1), test.transpose(0, 2, 3, 1)


def _pickled(folder, files, reader, monkeypatch):
    folder.mkdir(parents=True, exist_ok=True)
    sums = {}
    for name, content in files.items():
        data = pickle.dumps(content, protocol=2)
        (folder / name).write_bytes(data)
        sums[name] = hashlib.md5(data).hexdigest()
    monkeypatch.setattr(reader, "train_list", [[name, sums[name]] for name, _ in reader.train_list])
    monkeypatch.setattr(reader, "test_list", [[name, sums[name]] for name, _ in reader.test_list])
    monkeypatch.setattr(reader, "meta", reader.meta | {"md5": sums[reader.meta["filename"]]})


def write_idx(root, name="MNIST", salt=4):
    """Twenty training pictures and ten for the test in the format of MNIST; label = position modulo 10."""
    folder = root / name / "raw"
    folder.mkdir(parents=True, exist_ok=True)
    made = []
    for part, number in (("train", 20), ("t10k", 10)):
        data = pixels(number, (28, 28), salt + number)
        labels = bytes(index % 10 for index in range(number))
        (folder / f"{part}-images-idx3-ubyte").write_bytes(struct.pack(">IIII", 2051, number, 28, 28) + data.tobytes())
        (folder / f"{part}-labels-idx1-ubyte").write_bytes(struct.pack(">II", 2049, number) + labels)
        made.append(data)
    return tuple(made)


def write_svhn(root, monkeypatch):
    """Twenty training pictures and ten for the test; the digit 0 is written as 10."""
    root.mkdir(parents=True, exist_ok=True)
    made, table = [], dict(datasets.SVHN.split_list)
    for part, number in (("train", 20), ("test", 10)):
        data = pixels(number, (32, 32, 3), 6 + number)
        labels = np.array([[index % 10 or 10] for index in range(number)], np.uint8)
        path = root / f"{part}_32x32.mat"
        scipy.io.savemat(path, {"X": data.transpose(1, 2, 3, 0), "y": labels})
        table[part] = [*table[part][:2], hashlib.md5(path.read_bytes()).hexdigest()]
        made.append(data)
    monkeypatch.setattr(datasets.SVHN, "split_list", table)
    return tuple(made)


def write_vision(data, root, monkeypatch):
    """Write the dataset of this name; returns the training and the test pictures in the order of the files."""
    return {
        "cifar10": lambda: write_cifar10(root, monkeypatch),
        "cifar100": lambda: write_cifar100(root, monkeypatch),
        "mnist": lambda: write_idx(root),
        "fashion-mnist": lambda: write_idx(root, "FashionMNIST", 5),
        "svhn": lambda: write_svhn(root, monkeypatch),
    }[data]()
