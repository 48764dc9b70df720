"""DVC links outputs to its cache, so nothing is stored twice, and no stage writes through a link."""

import re
from pathlib import Path

import pytest

from tiny import CLASSES, ROOT, Project, write_tree

OUTPUTS = ("data", "models", "metrics", "plots", "report", "timings")


def blocks(*folders: Path) -> int:
    """Bytes on the disk, every inode once."""
    found = {}
    for folder in folders:
        for path in folder.rglob("*"):
            if path.is_file() and not path.is_symlink():
                status = path.stat()
                found[status.st_dev, status.st_ino] = 512 * status.st_blocks
    return sum(found.values())


@pytest.fixture(params=["hardlink", "symlink", "copy"])
def project(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Project, str]:
    project = Project(tmp_path, threads=1)
    write_tree(project.folder / "photos", CLASSES[:1])
    project.copy()
    project.run("adshift", "preset", "mvtec", "--data-root", "photos")
    project.change(
        dataset__root="photos", classes=list(CLASSES[:1]), methods=["padim_diagonal"], ablation__ratios=[],
        features__resize=160, evaluate__bootstrap=100,
        scenarios=["clean", "shift_no_adaptation", "shift_full_adaptation"],
    )  # fmt: skip
    project.link(request.param)
    project.commit("tiny")
    return project, request.param


def test_outputs_are_on_the_disk_once_and_the_cache_stays_whole(project: tuple[Project, str]) -> None:
    one, kind = project
    one.run("dvc", "repro")
    for key, value in (("padim_diagonal__smoothing", 2.0), ("split__train_fraction", 0.7), ("seed", 7)):
        one.change(**{key: value})
        one.run("dvc", "repro")
    assert one.run("adshift", "repair").stdout.strip() == "nothing is damaged"  # no object of the cache was written to
    cache, outputs = one.folder / ".dvc" / "cache", [one.folder / name for name in OUTPUTS]
    maps = next(one.folder.glob("data/features/clean/mvtec/*/level1.npy"))
    both = blocks(cache, *outputs)
    if kind == "copy":
        assert both > 1.6 * blocks(cache)
        assert maps.stat().st_nlink <= 2  # `data/kept`
    else:
        # A symbolic link leaves no second name to the rows that `embed` keeps for later images: these are copies.
        again = blocks(one.folder / "data" / "kept") if kind == "symlink" else 0
        assert both - again < 1.1 * blocks(cache)
        assert maps.is_symlink() == (kind == "symlink")
        assert not maps.stat().st_mode & 0o222


def test_the_shipped_setting_links_where_it_can() -> None:
    config = (ROOT / ".dvc" / "config").read_text()
    assert re.search(r'(?m)^\[cache\]\n    type = "reflink,hardlink,symlink"$', config)
