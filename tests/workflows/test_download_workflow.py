import pytest

from robustad.data.download import available
from robustad.workflows import download as module


def test_offers_are_one_row_per_dataset():
    offers = {offer.name: offer for offer in module.offers()}
    assert offers["mvtec"].images == "automatic" and offers["mvtec"].weights >= 14
    assert offers["brats2021"].images == "by hand"
    assert sum(offer.weights for offer in offers.values()) == sum(
        r.kind == "weights" and r.fetched for r in available()
    )


def test_arguments_reach_the_library(monkeypatch, tmp_path):
    calls = []
    monkeypatch.setattr(module, "download_dataset", lambda *args, **options: calls.append((args, options)) or tmp_path)
    monkeypatch.setattr(module, "download_weights", lambda *args, **options: calls.append((args, options)) or tmp_path)
    assert module.download("mvtec", str(tmp_path), masks=False) == tmp_path
    assert module.weights("mvtec", "bottle", "w") == tmp_path
    assert calls[0] == (("mvtec", tmp_path), {"masks": False})
    assert [str(part) for part in calls[1][0]] == ["mvtec", "bottle", "w"]


def test_steps_by_hand():
    assert module.steps_by_hand("brats2021").startswith("1. ")
    assert module.steps_by_hand("mvtec") == "" and module.steps_by_hand("nonsense") == ""


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(ValueError, match="mvtec"):
        module.download("mvtek")
