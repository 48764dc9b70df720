"""What is no image of a set is passed over by the scan and by `predict`, `recalibrate` and `drift` alike."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from adshift.data import datasets, image_files
from adshift.errors import AdshiftWarning

BESIDE = ("._1.png", ".thumbs/1.png", "@eaDir/1.png", "__MACOSX/1.png", "1.png~", "Thumbs.db", "#recycle/1.png")


def ten(folder: Path) -> Path:
    folder.mkdir(parents=True)
    for index in range(10):
        Image.fromarray(np.full((4, 4), 20 * index + 5, np.uint8)).save(folder / f"{index}.png")
    return folder


def test_copies_that_a_system_leaves_do_not_count(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = ten(tmp_path / "images")
    for name in (*BESIDE, "part.png/1.png"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(folder / "1.png", folder / name)
    expected = [folder / f"{index}.png" for index in range(10)]
    assert image_files.images([str(folder)]) == expected
    told = capsys.readouterr().err
    assert "2 hidden" in told and "5 of the system" in told and "1 folder named like an image" in told
    assert image_files.images([f"{folder}/*"]) == expected
    assert [Path(one) for one in image_files.Search().at([f"{folder}/**/*.png"])] == expected
    assert [Path(one) for one in image_files.Search().at([f"{folder}/@eaDir"])] == [
        folder / "@eaDir/1.png"
    ]  # asked for
    shutil.rmtree(folder / "part.png")
    assert list(datasets.files_in(folder)[0]) == [str(index) for index in range(10)]
    for name in ("@eaDir", "__MACOSX", ".git", "nut"):
        (tmp_path / "root" / name).mkdir(parents=True)
    assert [path.name for path in datasets.folders_in(tmp_path / "root")] == ["nut"]


def test_names_that_only_look_alike_are_images(tmp_path: Path) -> None:
    assert not any(
        image_files.kind_passed_over(name, folder=False) for name in ("@1.png", "#1.png", "$1.png", "~1.png")
    )


def test_one_image_twice_counts_once(tmp_path: Path) -> None:
    folder = ten(tmp_path / "images")
    shutil.copy(folder / "3.png", folder / "again.png")
    (folder / "link.png").symlink_to(folder / "4.png")
    with pytest.warns(AdshiftWarning, match=r"2 images are copies .*first: .*again\.png is .*3\.png"):
        assert len(image_files.images([str(folder)])) == 10
