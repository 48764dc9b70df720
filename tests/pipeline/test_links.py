"""DVC links outputs to its cache, so nothing is stored twice, and no stage writes through a link."""

import re
import shutil
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


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A tiny project after its first run, its outputs copies of what is in the cache."""
    project = Project(tmp_path_factory.mktemp("ran"), threads=1)
    write_tree(project.folder / "photos", CLASSES[:1])
    project.copy()
    project.run("adshift", "preset", "mvtec", "--data-root", "photos")
    project.change(
        dataset__root="photos", classes=list(CLASSES[:1]), methods=["padim_diagonal"], ablation__ratios=[],
        features__resize=160, evaluate__bootstrap=100,
        scenarios=["clean", "shift_no_adaptation", "shift_full_adaptation"],
    )  # fmt: skip
    project.commit("tiny")
    project.run("adshift", "repro", "--jobs", "2")
    return project


@pytest.mark.parametrize("kind", ["hardlink", "symlink", "copy"])
def test_outputs_are_on_the_disk_once_and_the_cache_stays_whole(ran: Project, tmp_path: Path, kind: str) -> None:
    one = Project(tmp_path / "project", threads=1)
    shutil.copytree(ran.folder, one.folder)
    shutil.rmtree(one.folder / "data" / "kept")  # `embed` links these rows to its outputs; here they are copies
    one.link(kind)
    one.dvc("checkout", "--relink")
    # Every stage that writes into a folder writes over its linked outputs.
    one.change(padim_diagonal__smoothing=2.0, split__train_fraction=0.7, seed=7)
    assert {"split", "shift@dots-shift", "score@padim_diagonal-dots", "package", "report"} <= one.ran(
        one.run("adshift", "repro", "--jobs", "2").stdout
    )
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
