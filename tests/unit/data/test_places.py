"""Folders are searched to the bottom, and nothing that may hide an image is passed over without a word."""

import os
from pathlib import Path

import pytest

from adshift.data import image_files
from adshift.data.image_files import Closed, Search
from adshift.errors import AdshiftError


def tree(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def found(*where: Path | str) -> tuple[list[str], list[str], dict[str, int]]:
    """Images, places that are closed, and what was passed over."""
    search = Search()
    every = list(search.at(map(str, where)))
    closed = [one.path for one in every if isinstance(one, Closed)]
    return [one for one in every if isinstance(one, str)], closed, dict(search.passed)


@pytest.fixture
def closed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Folders called `closed` may not be read, whoever runs this."""
    scandir = os.scandir

    def refuse(path: str) -> object:
        if Path(path).name == "closed":
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)


def test_a_folder_is_searched_to_the_bottom_in_order(tmp_path: Path) -> None:
    tree(tmp_path, "b/c/2.PNG", "b/1.jpg", "a.png")
    assert found(tmp_path) == ([f"{tmp_path}/{name}" for name in ("a.png", "b/1.jpg", "b/c/2.PNG")], [], {})


def test_links_to_folders_are_followed_and_a_loop_ends(tmp_path: Path) -> None:
    tree(tmp_path, "here/1.png", "elsewhere/deep/2.png")
    here = tmp_path / "here"
    (here / "link").symlink_to(tmp_path / "elsewhere")
    (here / "again").symlink_to(tmp_path / "elsewhere/deep")
    (here / "loop").symlink_to(here)
    (tmp_path / "elsewhere/back").symlink_to(here)
    images, shut, _ = found(here)
    real = [os.path.realpath(image) for image in images]
    assert sorted(real) == [f"{tmp_path}/elsewhere/deep/2.png", f"{here}/1.png"]
    assert shut == []


@pytest.mark.usefixtures("closed")
def test_a_folder_that_may_not_be_read_is_told(tmp_path: Path) -> None:
    tree(tmp_path, "1.png", "sub/closed/2.png")
    shut = f"{tmp_path}/sub/closed"
    for where in (tmp_path, f"{tmp_path}/**/*.png", f"{tmp_path}/*", shut):
        images, told, _ = found(where)
        assert (images, told) == ([] if where == shut else [f"{tmp_path}/1.png"], [shut]), where
    said = r"sub/closed: cannot be looked at \(Permission denied\)\n  remedy: change its permissions"
    with pytest.raises(AdshiftError, match=said):
        image_files.images([str(tmp_path)])


def test_links_that_lead_nowhere_are_told(tmp_path: Path) -> None:
    tree(tmp_path, "1.png")
    (tmp_path / "gone").symlink_to("nowhere")
    (tmp_path / "itself").symlink_to("itself")
    (tmp_path / "3.png").symlink_to("nowhere.png")  # whoever reads it tells
    expected = [f"{tmp_path}/1.png", f"{tmp_path}/3.png"], [f"{tmp_path}/gone", f"{tmp_path}/itself"], {}
    assert found(tmp_path) == found(f"{tmp_path}/*") == expected


def test_what_is_no_image_by_name_is_counted(tmp_path: Path) -> None:
    tree(tmp_path, "1.png", "2.jfif", "sub/3.JFIF", "notes.txt", "plain", ".DS_Store", ".git/4.png")
    images, shut, passed = found(tmp_path)
    assert (images, shut) == ([f"{tmp_path}/1.png"], [])
    assert passed == {".jfif": 2, ".txt": 1, "without suffix": 1, "hidden": 2}
    search = Search()
    list(search.at([str(tmp_path)]))
    assert search.summary().startswith("passed over, no images by name: 6 (2 ")
    assert "2 .jfif" in search.summary()
    assert found(f"{tmp_path}/*")[2] == {".jfif": 2, ".txt": 1, "without suffix": 1}


def test_a_pattern_means_the_folders_that_it_names_too(tmp_path: Path) -> None:
    tree(tmp_path, "day1/good/1.png", "day1/x.png", "day2/good/2.png", "night/good/3.png", "day3.png")
    (tmp_path / "day2/good/loop").symlink_to(tmp_path / "day2")

    def names(pattern: str) -> list[str]:
        return [Path(image).relative_to(tmp_path).as_posix() for image in found(f"{tmp_path}/{pattern}")[0]]

    assert names("day1*") == ["day1/good/1.png", "day1/x.png"]
    assert names("day?/good") == ["day1/good/1.png", *names("day2/good")]
    assert names("*/good/*.png") == ["day1/good/1.png", "day2/good/2.png", "night/good/3.png"]
    assert names("**/[12].png") == ["day1/good/1.png", "day2/good/2.png"]
    assert sorted(Path(name).name for name in names("**")) == ["1.png", "2.png", "3.png", "day3.png", "x.png"]
    assert found(f"{tmp_path}/none*")[0] == [f"{tmp_path}/none*"]  # to fail by its name


def test_files_are_given_as_they_are(tmp_path: Path) -> None:
    tree(tmp_path, "a[1].txt")
    named = [f"{tmp_path}/a[1].txt", "nowhere.png"]
    assert found(*named) == (named, [], {})
    assert list(Search().at(["-"], ["a\n", "\n", "b\r\n"])) == ["a", "b"]
