import pytest
from PIL import Image

from robustad.errors import LayoutError
from robustad.workflows.check import check


def test_a_folder_of_the_users_own(tmp_path, write_image):
    for number in range(5):
        write_image(tmp_path / f"set/normal/{number}.png", 20 * number + 10)
    write_image(tmp_path / "set/anomalous/a.png", 200)
    (tmp_path / "set/masks").mkdir()
    Image.new("L", (40, 24), 255).save(tmp_path / "set/masks/a.png")
    assert check(tmp_path / "set") == []
    Image.new("L", (4, 4), 255).save(tmp_path / "set/masks/a.png")
    (tmp_path / "set/normal/2.png").write_bytes(b"")
    found = {problem.path.name: problem.text for problem in check(tmp_path / "set")}
    assert set(found) == {"a.png", "2.png"}
    assert "4 x 4 pixels but" in found["a.png"] and "empty" in found["2.png"]


def test_a_dataset_by_name_and_category(tmp_path, write_image):
    write_image(tmp_path / "bottle/train/good/0.png", 10)
    write_image(tmp_path / "bottle/test/good/1.png", 20)
    (problem,) = check(tmp_path, data="mvtec", category="bottle")
    assert "bottle" in problem.text
    (problem,) = [entry for entry in check(tmp_path, data="mvtec", category="bottel") if "bottel" in entry.text]
    assert "bottle" in problem.text, "the text says which there are"


def test_what_cannot_be_checked(tmp_path):
    with pytest.raises(LayoutError, match="does not exist"):
        check(tmp_path / "none")
    with pytest.raises(LayoutError, match="name the folder"):
        check()
    with pytest.raises(ValueError, match="mvtec"):
        check(tmp_path, data="mvtecc")
