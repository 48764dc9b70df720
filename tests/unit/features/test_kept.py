"""Rows of an earlier run of `embed`: used for images that stayed, equal to new ones to the byte, never when damaged."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from adshift.data.images import sha256
from adshift.data.manifest import Item
from adshift.features import extract
from adshift.features.kept import Kept
from tiny import flip

KEY = {"embed.json": "a", "checked_network.json": "b"}


class Network:
    """Maps of an image alone, or `mixed` with the size of its batch; `seen` counts the images."""

    names = ("one", "two")

    def __init__(self, weights: str = "w", mixed: bool = False, **changes: Any) -> None:
        values = {"resize": 16, "fit": "squeeze", "tiles": None, "crop": None, "batch": 4, "dtype": "float16",
                  "images": True}  # fmt: skip
        self.settings = SimpleNamespace(**{**values, "mean": [0.0] * 3, "std": [1.0] * 3, **changes})
        self.record, self.mixed, self.seen = {"backbone": "none", "weights": weights}, mixed, 0

    def __call__(self, images: np.ndarray, finish: Callable[[Any], Any] = lambda maps: maps) -> list[np.ndarray]:
        self.seen += len(images)
        maps = [images[:, ::step, ::step].astype(np.float32) / 7 for step in (2, 4)]
        maps = [level + len(images) for level in maps] if self.mixed else maps
        return [np.asarray(finish(torch.from_numpy(level))) for level in maps]


@pytest.fixture
def items(tmp_path: Path) -> list[Item]:
    """Eleven images, one of them twice under two names."""
    found = []
    for index in range(11):
        path = tmp_path / f"{index:02}.png"
        Image.fromarray(np.random.default_rng(index % 10).integers(0, 256, (20, 30, 3), dtype=np.uint8)).save(path)
        found.append(Item(f"train/good/{index:02}", "train", "good", str(path), "", sha256(path), "", 30, 20))
    return found


def embed(folder: Path, items: list[Item], network: Network, kept: Kept | None = None) -> int:
    shutil.rmtree(folder, ignore_errors=True)
    return extract.embed(items, network, folder, what="embed", kept=kept)  # type: ignore[arg-type]


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture
def kept(tmp_path: Path, items: list[Item]) -> Kept:
    """The rows of seven of the images."""
    rows = Kept(tmp_path / "kept/tile", KEY)
    assert embed(tmp_path / "out", items[2:9], Network(), rows) == 0
    rows.keep(tmp_path / "out", items[2:9])
    return rows


@pytest.mark.parametrize("fit", ["squeeze", "pad"])
def test_new_images_alone_are_embedded_and_every_byte_is_the_same(tmp_path: Path, items: list[Item], fit: str) -> None:
    rows = Kept(tmp_path / "kept/tile", KEY)
    embed(tmp_path / "out", items[2:9], Network(fit=fit))
    rows.keep(tmp_path / "out", items[2:9])
    network, anew = Network(fit=fit), Network(fit=fit)
    assert embed(tmp_path / "out", items, network, rows) == 7
    assert embed(tmp_path / "anew", items, anew) == 0
    assert contents(tmp_path / "out") == contents(tmp_path / "anew")
    probes = 3
    assert (network.seen, anew.seen) == (1 + probes + 4, 1 + 11)


def test_rows_are_found_by_the_bytes_of_the_image(tmp_path: Path, items: list[Item], kept: Kept) -> None:
    renamed = [replace(item, name=f"train/good/x{index}") for index, item in enumerate(reversed(items[2:9]))]
    assert embed(tmp_path / "out", renamed, Network(), kept) == 7
    embed(tmp_path / "anew", renamed, Network())
    assert contents(tmp_path / "out") == contents(tmp_path / "anew")


@pytest.mark.parametrize("file", ["level1.npy", "images.npy"])
def test_a_damaged_row_is_embedded_again(tmp_path: Path, items: list[Item], kept: Kept, file: str) -> None:
    flip(kept.folder / file)
    order = [items[2], items[8], *items[3:8], items[0]]  # of items[8], which is no probe
    embed(tmp_path / "anew", order, Network())
    assert embed(tmp_path / "out2", order, Network(), kept) == 6
    assert contents(tmp_path / "out2") == contents(tmp_path / "anew")


@pytest.mark.parametrize("file", ["features.json", "rows.json"])
def test_a_damaged_record_keeps_nothing(tmp_path: Path, items: list[Item], kept: Kept, file: str) -> None:
    flip(kept.folder / file)
    assert embed(tmp_path / "out2", items, Network(), kept) == 0


@pytest.mark.parametrize("changes", [{"weights": "v"}, {"resize": 20}, {"fit": "pad"}, {"dtype": "float32"}])
def test_features_made_in_another_way_are_not_used(
    tmp_path: Path, items: list[Item], kept: Kept, changes: dict[str, Any]
) -> None:
    assert embed(tmp_path / "out2", items, Network(**changes), kept) == 0


def test_nor_those_of_other_code(tmp_path: Path, items: list[Item], kept: Kept) -> None:
    assert embed(tmp_path / "out2", items, Network(), Kept(kept.folder, KEY | {"embed.json": "c"})) == 0


def test_nor_those_of_a_machine_that_gives_others(
    tmp_path: Path, items: list[Item], kept: Kept, monkeypatch: pytest.MonkeyPatch
) -> None:
    network, before = Network(), Network.__call__

    def other(self: Network, images: np.ndarray, finish: Callable[[Any], Any] = lambda maps: maps) -> list[np.ndarray]:
        return before(self, images, lambda maps: finish(maps * (1 + 2**-9)))

    monkeypatch.setattr(Network, "__call__", other)
    assert embed(tmp_path / "out", items, network, kept) == 0
    assert embed(tmp_path / "anew", items, Network()) == 0
    assert contents(tmp_path / "out") == contents(tmp_path / "anew")


@pytest.mark.parametrize("count", [1, 2, 3])
def test_few_kept_rows_are_tried_too(tmp_path: Path, items: list[Item], count: int) -> None:
    rows = Kept(tmp_path / "kept/tile", KEY)
    for mixed, copied in ((False, count), (True, 0)):
        embed(tmp_path / "out", items[:count], Network(mixed=mixed))
        rows.keep(tmp_path / "out", items[:count])
        assert embed(tmp_path / "out", items, Network(mixed=mixed), rows) >= copied
        embed(tmp_path / "anew", items, Network(mixed=mixed))
        assert contents(tmp_path / "out") == contents(tmp_path / "anew")


def test_batches_try_kept_images_alone_and_at_both_ends() -> None:
    assert extract.probes([]) == []
    assert extract.probes([4, 7, 8, 9]) == [4, 8, 9]
    assert extract.batches([1, 2, 3], [4, 8, 9], 2) == [[8], [4, 1], [2, 3], [9]]
    assert extract.batches([], [4, 8, 9], 4) == [[8], [4, 9]]
    assert extract.batches([1], [4], 4) == [[4], [1]]
    assert extract.batches([1, 2, 3], [], 2) == [[1, 2], [3]]


def test_nor_where_the_batch_changes_an_images_maps(tmp_path: Path, items: list[Item]) -> None:
    rows = Kept(tmp_path / "kept/tile", KEY)
    embed(tmp_path / "out", items[2:9], Network(mixed=True))
    rows.keep(tmp_path / "out", items[2:9])
    assert embed(tmp_path / "out", items, Network(mixed=True), rows) == 0


def test_kept_rows_take_no_room_and_outlive_the_output(tmp_path: Path, items: list[Item], kept: Kept) -> None:
    assert (kept.folder / "level1.npy").samefile(tmp_path / "out/level1.npy")
    shutil.rmtree(tmp_path / "out")
    assert embed(tmp_path / "out", items, Network(), kept) == 7


def test_without_hard_links_nothing_is_kept(
    tmp_path: Path, items: list[Item], kept: Kept, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError

    monkeypatch.setattr("os.link", refuse)
    kept.keep(tmp_path / "out", items[2:9])
    assert not kept.folder.exists()
