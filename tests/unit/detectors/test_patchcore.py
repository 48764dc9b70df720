"""PatchCore against a brute-force version by the book, anomalib's equation 7, and what must hold of any memory bank."""

import json
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from adshift.detectors import storage
from adshift.detectors.components.memory_bank import softmax_weight
from adshift.detectors.patchcore import Fit, PatchCore, Score
from adshift.detectors.records import Predictions
from adshift.detectors.registry import detector_class
from adshift.errors import AdshiftError
from adshift.features.store import Features
from adshift.search.coreset import covering_radius
from banks import FIT, features

SCORE: dict[str, Any] = {
    "neighbours": 9, "reweight": "softmax", "image_score": "max", "top_percent": 5.0, "smoothing": 4.0,
    "search_width": 16,
}  # fmt: skip


def patchcore(**settings: Any) -> PatchCore:
    return PatchCore(Fit(**{**FIT, **settings}))


def predict(detector: PatchCore, images: Features, **how: Any) -> Predictions:
    return detector.predict(images, Score(**{**SCORE, **how}))


def fitted(images: Features, seed: int = 0, **settings: Any) -> PatchCore:
    detector = patchcore(**settings)
    detector.fit(images, np.random.default_rng(seed))
    return detector


def pooled(maps: np.ndarray) -> np.ndarray:
    """3 x 3 mean with zeros beyond the edge, by the book: (N, H, W, C)."""
    padded = np.pad(maps, ((0, 0), (1, 1), (1, 1), (0, 0)))
    height, width = maps.shape[1:3]
    return sum(padded[:, i : i + height, j : j + width] for i in range(3) for j in range(3)) / 9


def enlarged(maps: np.ndarray, side: int) -> np.ndarray:
    """Bilinear between pixel centres, by the book: (N, side, side, C)."""
    for axis in (1, 2):
        old = (np.arange(maps.shape[axis]) + 0.5) / maps.shape[axis]
        new = (np.arange(side) + 0.5) / side
        maps = np.apply_along_axis(lambda line: np.interp(new, old, line), axis, maps)  # noqa: B023
    return maps


def book(train: Features, test: Features, metric: str) -> np.ndarray:
    """Patch scores under the full bank in float64: (N, 8, 8)."""

    def embed(images: Features) -> np.ndarray:
        first, second = (pooled(images.maps(level).astype(float)) for level in (2, 3))
        return np.concatenate([first, enlarged(second, 8)], axis=-1).reshape(-1, 12)

    bank, patches = embed(train), embed(test)
    if metric == "cosine":
        bank, patches = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (bank, patches))
    distances = np.linalg.norm(patches[:, None] - bank[None], axis=2)
    if metric == "cosine":
        distances = distances**2 / 2
    nearest = np.sort(distances, axis=1)[:, :9]
    softmax = np.exp(-nearest) / np.exp(-nearest).sum(axis=1, keepdims=True)
    return (nearest[:, 0] * (1 - softmax[:, 0])).reshape(len(test), 8, 8)


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
@pytest.mark.parametrize("projected", [None, 8])
def test_the_full_bank_equals_brute_force(metric: str, projected: int | None) -> None:
    train, test = features(5), features(3, seed=1)
    detector = fitted(train, coreset=1.0, metric=metric, projection=projected)
    found, expected = predict(detector, test), book(train, test, metric)
    np.testing.assert_allclose(found.maps, expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(found.scores, expected.max(axis=(1, 2)), rtol=1e-5)
    assert found.names == test.names
    assert (found.size, found.smoothing) == (32, 4.0)


@pytest.mark.parametrize("reweight", ["softmax", "original", "none"])
def test_a_training_image_scores_zero_under_the_full_bank(reweight: str) -> None:
    train = features(4)
    detector = fitted(train, coreset=1.0)
    found = predict(detector, train, reweight=reweight)
    assert np.abs(found.maps).max() < 1e-4
    assert np.abs(found.scores).max() < 1e-4
    assert predict(detector, features(2, seed=1), reweight=reweight).scores.min() > 0.1


def test_patches_are_those_of_anomalib() -> None:
    import torch
    from anomalib.models.image.patchcore.torch_model import PatchcoreModel

    images = features(2)
    maps = {f"layer{level}": torch.from_numpy(images.maps(level).transpose(0, 3, 1, 2)) for level in (2, 3)}
    model = PatchcoreModel(["layer2", "layer3"], backbone="resnet18", pre_trained=False)
    expected = model.generate_embedding({name: model.feature_pooler(m) for name, m in maps.items()})
    found = patchcore().patches(images)
    assert found.shape == (2, 8, 8, 12)
    np.testing.assert_allclose(found, expected.numpy().transpose(0, 2, 3, 1), rtol=1e-5, atol=1e-5)


def test_the_original_reweighting_is_anomalibs_equation_7() -> None:
    import torch
    from anomalib.models.image.patchcore.torch_model import PatchcoreModel

    test = features(3, seed=1)
    detector = fitted(features(5))
    model = PatchcoreModel(["layer2", "layer3"], backbone="resnet18", pre_trained=False, num_neighbors=9)
    model.memory_bank = torch.from_numpy(detector.bank)
    patches = torch.from_numpy(detector.patches(test).reshape(-1, 12))
    scores, rows = model.nearest_neighbors(patches, n_neighbors=1)
    expected = model.compute_anomaly_score(scores.reshape(3, -1), rows.reshape(3, -1), patches).numpy()
    found = predict(detector, test, reweight="original")
    np.testing.assert_allclose(found.scores, expected, rtol=1e-4)
    np.testing.assert_allclose(found.maps.reshape(3, -1), scores.reshape(3, -1).numpy(), rtol=1e-4)
    assert (found.scores < found.maps.max(axis=(1, 2))).all()


def test_far_distances_do_not_underflow() -> None:
    distances = np.array([[1000, 1000, 1001]], np.float32)  # exp(-1000) is 0 even in float64
    assert softmax_weight(distances) == pytest.approx(1 - 1 / (2 + np.exp(-1)), rel=1e-6)


def test_one_neighbour_leaves_the_distance_as_it_is() -> None:
    detector, test = fitted(features(3)), features(2, seed=1)
    alone = predict(detector, test, neighbours=1)
    np.testing.assert_array_equal(alone.maps, predict(detector, test, reweight="none").maps)
    np.testing.assert_array_equal(alone.scores, predict(detector, test, neighbours=1, reweight="original").scores)
    assert alone.scores.min() > 0


def test_the_mean_of_the_largest_scores() -> None:
    found = predict(fitted(features(3)), features(4, seed=1), image_score="top_mean", top_percent=5.0)
    expected = np.sort(found.maps.reshape(4, 64), axis=1)[:, -3:].mean(axis=1)  # 5 % of 64 patches
    np.testing.assert_allclose(found.scores, expected, rtol=1e-6)


@pytest.mark.parametrize(("percent", "count"), [(5.6, 4), (5.4, 3), (0.1, 1), (100.0, 64)])
def test_how_many_are_the_largest_scores_is_rounded_to_the_nearest(percent: float, count: int) -> None:
    """Of 64 patches: 3.58 and 3.46, less than one, and all."""
    found = predict(fitted(features(3)), features(4, seed=1), image_score="top_mean", top_percent=percent)
    expected = np.sort(found.maps.reshape(4, 64), axis=1)[:, -count:].mean(axis=1)
    np.testing.assert_allclose(found.scores, expected, rtol=1e-6)


def test_the_bank_is_made_of_unique_training_patches_of_the_asked_number() -> None:
    train = features(5)
    detector = fitted(train, coreset=0.2)
    assert len(detector.bank) == len(set(detector.picks.tolist())) == 5 * 64 // 5
    np.testing.assert_array_equal(detector.bank, patchcore().patches(train).reshape(-1, 12)[detector.picks])


def test_a_smaller_ratio_is_the_start_of_a_larger_one(tmp_path: Path) -> None:
    train, test = features(5), features(2, seed=1)
    reduced, alone = fitted(train, coreset=0.3).reduced(0.1), fitted(train, coreset=0.1)
    reduced.save(tmp_path / "reduced")
    alone.save(tmp_path / "alone")
    for name in ("model.json", "model.safetensors"):
        assert (tmp_path / "reduced" / name).read_bytes() == (tmp_path / "alone" / name).read_bytes()
    np.testing.assert_array_equal(predict(reduced, test).scores, predict(alone, test).scores)
    with pytest.raises(AdshiftError, match="cannot come from"):
        alone.reduced(0.3)


@pytest.mark.parametrize("projected", [None, 8])
def test_chunks_of_all_patches_change_nothing(projected: int | None) -> None:
    train = features(5)
    whole = fitted(train, projection=projected)
    for most in (5 * 64, 10**9):
        chunked = fitted(train, projection=projected, chunk_patches=most)
        np.testing.assert_array_equal(chunked.bank, whole.bank)
        np.testing.assert_array_equal(chunked.radii, whole.radii)


@pytest.mark.parametrize("most", [1, 64, 130, 200])  # an image at least
def test_a_bank_selected_in_chunks_covers_the_patches(
    most: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    train, found = features(7), []
    for threads in ("1", "3"):
        monkeypatch.setenv("ADSHIFT_THREADS", threads)
        detector = fitted(train, projection=None, chunk_patches=most)
        detector.save(tmp_path / threads)
        found.append((tmp_path / threads / "model.safetensors").read_bytes())
    assert found[0] == found[1]
    patches = detector.patches(train).reshape(-1, 12)
    np.testing.assert_array_equal(detector.bank, patches[detector.picks])
    assert len(set(detector.picks.tolist())) == 7 * 64 // 5
    covered = covering_radius(patches, detector.bank)
    assert covered <= 2 * covering_radius(patches, fitted(train, projection=None).bank)
    assert covered <= detector.radii[-1] * (1 + 1e-6)
    smaller = detector.reduced(0.1)
    np.testing.assert_array_equal(smaller.bank, detector.bank[: len(smaller.bank)])


def test_memory_is_bounded_by_the_chunk(monkeypatch: pytest.MonkeyPatch) -> None:
    """The peak of a fit grows with the images if all are held together, and does not if a chunk is."""
    monkeypatch.setenv("ADSHIFT_THREADS", "1")  # how many images' patches are in flight is chance otherwise

    def peak(count: int, most: int | None) -> int:
        train = features(count, sides=((2, 2), (32, 32), (4, 4)))
        tracemalloc.start()
        try:
            fitted(train, projection=256, coreset=16 / (count * 1024), chunk_patches=most)
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    fitted(features(2))  # what is made but once
    image = 1024 * 256 * 4
    assert peak(24, None) > 24 * image
    assert peak(24, 3 * 1024) < 8 * image
    assert peak(24, 3 * 1024) < 1.1 * peak(12, 3 * 1024)


def test_a_ratio_that_selects_nothing_is_refused() -> None:
    with pytest.raises(AdshiftError, match="selects nothing"):
        fitted(features(2), coreset=0.001)


def test_no_training_image_is_refused() -> None:
    with pytest.raises(AdshiftError, match="no training image"):
        fitted(features(2)[:0])


def test_a_layer_that_is_not_there_is_refused() -> None:
    with pytest.raises(AdshiftError, match="level 4"):
        fitted(features(2), layers=(2, 4))


def test_features_of_another_network_are_refused() -> None:
    detector, other = fitted(features(3)), features(2)
    with pytest.raises(AdshiftError, match="another network"):
        predict(detector, Features(other.names, {**other.spec, "size": 64}, other.rows))


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
@pytest.mark.parametrize("projected", [None, 8])
@pytest.mark.parametrize("index", ["exact", "hnsw"])
def test_a_saved_model_predicts_the_same(metric: str, projected: int | None, index: str, tmp_path: Path) -> None:
    test = features(2, seed=1)
    detector = fitted(features(4), metric=metric, projection=projected, index=index)
    detector.save(tmp_path / "model")
    loaded = detector_class("patchcore").load(tmp_path / "model")
    assert loaded.settings == detector.settings
    before, after = (predict(each, test, reweight="original") for each in (detector, loaded))
    np.testing.assert_array_equal(before.scores, after.scores)
    np.testing.assert_array_equal(before.maps, after.maps)
    loaded.reduced(0.1).save(tmp_path / "smaller")


@pytest.mark.parametrize("count", [1, 5])  # fewer images than threads, and more
@pytest.mark.parametrize("index", ["exact", "hnsw"])
def test_the_thread_count_changes_no_byte(
    count: int, index: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    train, test = features(6), features(count, seed=1)
    found = []
    for threads in ("1", "2", "3"):
        monkeypatch.setenv("ADSHIFT_THREADS", threads)
        detector = fitted(train, index=index)
        detector.save(tmp_path / threads)
        predict(detector, test).save(tmp_path / threads / "scores.npz")
        found.append({file.name: file.read_bytes() for file in sorted((tmp_path / threads).iterdir())})
    assert len(found[0]) == 3
    assert found[0] == found[1] == found[2]


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
@pytest.mark.parametrize("reweight", ["softmax", "original", "none"])
@pytest.mark.parametrize("image_score", ["max", "top_mean"])
def test_a_graph_makes_errors_in_maps_and_none_in_image_scores(metric: str, reweight: str, image_score: str) -> None:
    train, test = features(8, 1), features(6, 2)
    how = {"neighbours": 5, "reweight": reweight, "image_score": image_score, "top_percent": 5, "search_width": 1}
    exact, graph = (
        predict(fitted(train, metric=metric, coreset=0.5, index=index), test, **how) for index in ("exact", "hnsw")
    )
    np.testing.assert_array_equal(exact.scores, graph.scores)
    assert 0.02 < (exact.maps != graph.maps).mean() < 0.98  # the graph did miss some


def test_few_patches_are_searched_for_exactly(monkeypatch: pytest.MonkeyPatch) -> None:
    detector, images = fitted(features(8, 1), coreset=0.5, index="hnsw"), features(6, 2)
    met = []
    exactly = detector.neighbors.search_exactly
    monkeypatch.setattr(detector.neighbors, "search_exactly", lambda *of: met.append(len(of[0])) or exactly(*of))
    predict(detector, images, search_width=32)
    assert 0 < sum(met) < 0.3 * 6 * 256


def test_the_generator_alone_decides_what_is_drawn() -> None:
    train = features(4)
    np.testing.assert_array_equal(fitted(train, seed=3).picks, fitted(train, seed=3).picks)
    assert fitted(train, seed=3).picks[0] != fitted(train, seed=4).picks[0]


@pytest.mark.parametrize("sides", [((9, 13), (5, 7), (3, 4)), ((4, 4), (1, 1), (1, 1)), ((7, 3), (7, 3), (2, 5))])
@pytest.mark.parametrize(("pool", "stride"), [(1, 1), (3, 2), (5, 1)])
def test_unusual_sizes(sides: tuple[tuple[int, int], ...], pool: int, stride: int) -> None:
    layers, train, test = (1, 2, 3), features(3, 0, sides), features(2, 1, sides)
    found = predict(fitted(train, layers=layers, pool=pool, stride=stride, coreset=1.0), test)
    height, width = (-(-side // stride) for side in sides[0])
    assert found.maps.shape == (2, height, width)
    assert np.isfinite(found.maps).all()
    assert found.full_maps().shape == (2, 32, 32)


def test_a_neighbourhood_has_a_centre() -> None:
    with pytest.raises(ValueError, match="centre"):
        patchcore(pool=2)


def test_a_model_directory_is_self_contained_json_and_arrays(tmp_path: Path) -> None:
    train = features(3)
    fitted(train).save(tmp_path / "model")
    assert sorted(file.name for file in (tmp_path / "model").iterdir()) == ["model.json", "model.safetensors"]
    record = json.loads((tmp_path / "model" / "model.json").read_text())
    assert record["method"] == "patchcore"
    assert record["features"] == train.spec
    assert record["settings"] == {**FIT, "layers": [2, 3], "foreground": None}


def test_damaged_and_foreign_models_are_refused(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    fitted(features(3)).save(folder)
    content, record = (folder / "model.safetensors").read_bytes(), (folder / "model.json").read_text()

    def refused(pattern: str) -> None:
        with pytest.raises(AdshiftError, match=pattern):
            PatchCore.load(folder)
        (folder / "model.safetensors").write_bytes(content)
        (folder / "model.json").write_text(record)

    (folder / "model.json").write_text(record.replace('"patchcore"', '"padim"'))
    refused("checksum")
    record = json.dumps({key: value for key, value in json.loads(record).items() if key != "checksum"})
    (folder / "model.json").write_text(record)
    (folder / "model.safetensors").write_bytes(content[:-8])
    refused("not readable")
    (folder / "model.safetensors").write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    refused("damaged")
    (folder / "model.safetensors").unlink()
    refused("not readable")
    (folder / "model.json").write_text(record.replace('"patchcore"', '"padim"'))
    refused("padim")
    (folder / "model.json").write_text("{}")
    refused("no patchcore model")
    (folder / "model.json").write_text("[1, 2]")
    refused("no patchcore model")
    (folder / "model.json").write_text(record[:50])
    refused("not readable")
    (folder / "model.json").write_text(record.replace('"float64"', '"float32"'))
    refused("other arrays")
    (folder / "model.json").write_text(record.replace('"stride": 1', '"strides": 1'))
    refused("strides")
    PatchCore.load(folder)


def test_only_finite_arrays_are_saved(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="bank is not finite"):
        storage.save(tmp_path / "model", "patchcore", {}, {}, {"bank": np.array([1.0, np.nan])})
    assert not (tmp_path / "model").exists()
