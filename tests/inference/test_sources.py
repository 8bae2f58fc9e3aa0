import io
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from robustad.errors import LayoutError
from robustad.images import list_images
from robustad.inference import Sources, check_place


def touch(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    return path


def listed(*arguments, **options):
    return [(str(source.path), source.name) for source in Sources(arguments, **options)]


def test_a_folder_is_walked_as_list_images_does(tmp_path):
    for name in (
        "b.png",
        "a/z.PNG",
        "a.png",
        "a/b/c.jpg",
        "a-b/d.tif",
        ".hidden/e.png",
        ".f.png",
        "notes.txt",
        "A.bmp",
    ):
        touch(tmp_path / name)
    assert [source.path for source in Sources([tmp_path])] == list_images(tmp_path, recursive=True)
    assert Sources([tmp_path]).count() == 6


@given(names=st.lists(st.text("ab./-", min_size=1, max_size=6), min_size=1, max_size=8))
def test_the_order_is_that_of_the_full_paths(tmp_path_factory, names):
    base = tmp_path_factory.mktemp("walk")
    for name in names:
        target = (base / name.strip("/.")).with_name("x" + name.replace("/", "").replace(".", "") + ".png")
        if base in target.parents and not any(parent.is_file() for parent in target.parents):
            touch(target)
    assert [source.path for source in Sources([base])] == list_images(base, recursive=True)


def test_names_are_relative_to_the_one_folder(tmp_path):
    touch(tmp_path / "in/sub/a.png")
    assert listed(tmp_path / "in") == [(str(tmp_path / "in/sub/a.png"), "sub/a.png")]


def test_names_of_two_folders_and_a_file_do_not_clash(tmp_path):
    for name in ("one/a.png", "two/a.png", "a.png"):
        touch(tmp_path / name)
    found = listed(tmp_path / "two", tmp_path / "a.png", tmp_path / "one")
    assert [name for _, name in found] == ["two/a.png", "a.png", "one/a.png"], "order of the arguments, not sorted"


def test_globs_descend_and_files_of_any_extension_are_taken_as_named(tmp_path):
    for name in ("x/1.png", "x/y/2.png", "x/3.raw"):
        touch(tmp_path / name)
    names = {Path(path).name for path, _ in listed(f"{tmp_path}/**/*.png")}
    assert names == {"1.png", "2.png"}
    assert [Path(path).name for path, _ in listed(tmp_path / "x/3.raw")] == ["3.raw"]


def test_a_file_whose_name_looks_like_a_glob(tmp_path):
    path = touch(tmp_path / "part[1].png")
    assert [found for found, _ in listed(path)] == [str(path)]


def test_a_list_on_stdin_is_read_lazily_with_its_duplicates(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    sources = Sources(["-"], stdin=io.StringIO("a.png\n\nsub/b c.png\r\na.png\n"))
    assert sources.count() is None
    assert [source.name for source in sources] == ["a.png", "sub/b c.png", "a.png"]


def test_a_listed_path_elsewhere_keeps_to_the_output_folder(tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    names = [source.name for source in Sources(["-"], stdin=io.StringIO("../up.png\n/abs/x.png\na/../b.png\n"))]
    assert names[0].startswith("_elsewhere/") and names[0].endswith("/up.png") and ".." not in names[0]
    assert names[1:] == ["_elsewhere/abs/x.png", "b.png"]


def test_an_unreadable_folder_is_one_error_not_the_end(tmp_path, monkeypatch):
    for name in ("a.png", "locked/b.png", "z.png"):
        touch(tmp_path / name)
    scan = os.scandir

    def refuse(folder):
        if str(folder).endswith("locked"):
            raise PermissionError(13, "Permission denied")
        return scan(folder)

    monkeypatch.setattr(os, "scandir", refuse)
    found = list(Sources([tmp_path]))
    assert [source.error is None for source in found] == [True, False, True]
    assert "Permission denied" in found[1].error


def test_links_to_folders_do_not_loop(tmp_path):
    touch(tmp_path / "a.png")
    (tmp_path / "loop").symlink_to(tmp_path, target_is_directory=True)
    assert Sources([tmp_path]).count() == 1


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ([], LayoutError, "no images given"),
        (["missing.png"], LayoutError, "missing.png does not exist"),
        (["none/*.png"], LayoutError, "none/*.png matches no file"),
        (["-", "-"], ValueError, "once"),
    ],
)
def test_arguments_that_stand_for_nothing(tmp_path, monkeypatch, arguments, error, text):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(error, match=text.replace("*", r"\*")):
        Sources(arguments, stdin=io.StringIO())


def test_a_glob_that_names_a_folder_and_what_is_in_it_gives_each_image_once(tmp_path):
    for name in ("g/a.png", "g/sub/b.png", "h/c.png"):
        touch(tmp_path / name)
    for pattern in ("g/**", "g/**/*", "g/*"):
        assert sorted(name for _, name in listed(f"{tmp_path}/{pattern}")) in (
            ["a.png", "sub/b.png"],
            ["g/a.png", "g/sub/b.png"],
        ), pattern
    assert len(listed(f"{tmp_path}/**")) == 3


@pytest.mark.parametrize(
    "argument, folder, found",
    [
        ("im", "im/maps", "im"),
        ("im/*.png", "im", "im"),
        ("im/*.png", "im/maps", None),
        ("im/**/*.png", "im/maps", "im"),
        ("im/a.png", "im", "im"),
        ("im/a.png", ".", None),
        ("*/a.png", "im", "im"),
    ],
)
def test_places_that_pictures_must_not_be_written_to(tmp_path, argument, folder, found):
    touch(tmp_path / "im/a.png")
    sources = Sources([f"{tmp_path}/{argument}"])
    assert sources.reads_from(tmp_path / folder) == (None if found is None else (tmp_path / found).resolve())
    with pytest.raises(ValueError, match="`out` must be a folder"):
        check_place(tmp_path / "im/a.png", sources, "out")
