"""STFPM against anomalib's STFPMModel, and the stored images that it sees."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import students
from adshift.data import geometry, images
from adshift.data.manifest import Item
from adshift.detectors.components import training
from adshift.detectors.components.students import DECAY, MOMENTUM
from adshift.detectors.stfpm import Fit, Score, Stfpm
from adshift.errors import AdshiftError
from adshift.features import extract
from adshift.features.store import Features
from adshift.runtime.parallel import torch_threads

FIT, HOW = Fit(layers=(1, 2, 3), epochs=6, batch=4, learning_rate=0.4), Score(smoothing=0.0)


def given(count: int, seed: int = 0, backbone: str = "resnet18") -> Features:
    return students.features(students.images(count, seed), backbone, kept=True)


def fit(features: Features, settings: Fit = FIT) -> Stfpm:
    model = Stfpm(settings)
    model.fit(features, np.random.default_rng(1))
    return model


@pytest.fixture(scope="module")
def fitted() -> Stfpm:
    return fit(given(10))


@torch_threads(1)
def test_maps_and_scores_are_anomalibs(fitted: Stfpm) -> None:
    """Its model with our student; its own constructor would fetch weights. The product is taken on our grid, 16 x 16.

    Multiplied on the image's 64 x 64, as the papers do, maps differ by what interpolation does to a product.
    """
    import torch
    from anomalib.models.components import TimmFeatureExtractor
    from anomalib.models.image.stfpm.anomaly_map import AnomalyMapGenerator
    from anomalib.models.image.stfpm.torch_model import STFPMModel

    theirs = STFPMModel.__new__(STFPMModel)
    torch.nn.Module.__init__(theirs)
    theirs.tiler, theirs.anomaly_map_generator = None, AnomalyMapGenerator()
    for name, network in (("teacher_model", students.network("resnet18")), ("student_model", fitted.student)):
        extractor = TimmFeatureExtractor("resnet18", students.LAYERS["resnet18"], pre_trained=False)
        extractor.feature_extractor.load_state_dict(network.state_dict())
        setattr(theirs, name, extractor)
    test = given(5, seed=7)
    batch = students.normalised(test.images())
    found = fitted.predict(test, HOW)
    with torch.inference_mode():
        teacher, student = theirs.train()(batch)
        grid = theirs.anomaly_map_generator(teacher_features=teacher, student_features=student, image_size=(16, 16))
        whole = theirs.eval()(batch)
    np.testing.assert_allclose(found.maps, grid[:, 0].numpy(), rtol=1e-3, atol=1e-7)
    np.testing.assert_allclose(found.scores, whole.pred_score.numpy().ravel(), rtol=0.1)
    apart = np.abs(found.full_maps() - whole.anomaly_map[:, 0].numpy())
    assert apart.max() < 0.1 * whole.anomaly_map.numpy().max()


def test_a_training_is_anomalibs_with_its_learning_rate_times_the_batch() -> None:
    """anomalib sums the loss over a batch, we take the mean: equal steps give equal students."""
    from anomalib.models.image.stfpm.loss import STFPMLoss

    features, batch, generator = given(10), 5, np.random.default_rng(1)
    ours = fit(features, Fit(layers=(1, 2, 3), epochs=2, batch=batch, learning_rate=0.4 * batch))
    with training.reproducible(generator):
        student = ours._untrained().to(memory_format=torch.channels_last).train()
        optimizer = torch.optim.SGD(student.parameters(), 0.4, momentum=MOMENTUM, weight_decay=DECAY * batch)
        for _ in range(2):
            for indices in np.split(generator.permutation(len(features)), 2):
                part = features.take(indices.tolist())
                teacher, learned = ours.teacher_maps(part), student(ours.student_input(part))
                optimizer.zero_grad()
                STFPMLoss()(dict(enumerate(teacher)), dict(enumerate(learned))).backward()
                optimizer.step()
    for name, array in training.arrays_of(student).items():
        np.testing.assert_allclose(ours.arrays[name], array, rtol=1e-3, atol=1e-4, err_msg=name)


def test_training_lowers_the_loss_and_a_defect_stands_out(fitted: Stfpm) -> None:
    assert fitted.history[-1] < fitted.history[0] / 2
    test = students.images(6, seed=7)
    test[3:, 20:44, 20:44] = students.images(3, seed=8)[:, 20:44, 20:44, ::-1] // 3
    found = fitted.predict(students.features(test, kept=True), HOW).scores
    assert found[3:].min() > found[:3].max()


def test_a_saved_model_predicts_the_same(tmp_path: Path, fitted: Stfpm) -> None:
    fitted.save(tmp_path / "model")
    test = given(9, seed=7)
    np.testing.assert_array_equal(
        Stfpm.load(tmp_path / "model").predict(test, HOW).maps, fitted.predict(test, HOW).maps
    )


@pytest.mark.parametrize("backbone", list(students.LAYERS))
@torch_threads(1)
def test_the_number_of_threads_changes_no_byte(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, backbone: str) -> None:
    import torch

    train, test, found = given(8, 8, backbone), given(17, 17, backbone), []
    for threads in (1, 2):
        monkeypatch.setenv("ADSHIFT_THREADS", str(threads))
        torch.set_num_threads(threads)
        model = fit(train, FIT.model_copy(update={"epochs": 2}))
        model.save(tmp_path / str(threads))
        maps = model.predict(test, HOW).maps
        found.append(((tmp_path / str(threads) / "model.safetensors").read_bytes(), maps.tobytes()))
    assert found[0] == found[1]


def test_features_without_images_are_refused() -> None:
    with pytest.raises(AdshiftError, match="without the images"):
        fit(students.features(students.images(4)))
    with pytest.raises(AdshiftError, match="at least 2"):
        fit(given(1))


@pytest.mark.parametrize("kept", [True, False])
def test_stored_images_are_the_networks_input(tmp_path: Path, kept: bool) -> None:
    """What `embed` writes and `Features.open` finds, in whatever order it is asked for."""
    items = []
    for index, image in enumerate(students.images(5)):
        path = tmp_path / f"{index}.png"
        Image.fromarray(image[:50]).save(path)
        items.append(Item(f"train/good/{index}", "train", "good", str(path), "", images.sha256(path), "", 64, 50))

    class Tiny:
        settings = SimpleNamespace(
            resize=40, crop=32, fit="squeeze", tiles=None, options={}, batch=2, dtype="float16", images=kept,
            mean=(0, 0, 0), std=(1, 1, 1),
        )  # fmt: skip
        names, record = ("half",), {"backbone": "tiny"}

        def __call__(self, batch: np.ndarray, finish: Callable[[Any], Any] = lambda maps: maps) -> list[np.ndarray]:
            return [np.asarray(finish(torch.from_numpy(batch[:, ::2, ::2].astype(np.float32))))]

    extract.embed(items, Tiny(), tmp_path / "features", what="tiny")  # type: ignore[arg-type]
    found = Features.open(tmp_path / "features").take([3, 0])
    expected = np.stack([geometry.fit(images.load_image(items[index]), 40, 32) for index in (3, 0)])
    np.testing.assert_array_equal(found.maps(1), expected[:, ::2, ::2])
    assert found.names == ("train/good/3", "train/good/0")
    if kept:
        np.testing.assert_array_equal(found.images(), expected)
    else:
        assert not (tmp_path / "features/images.npy").exists()
        with pytest.raises(AdshiftError, match=r"features\.images: true"):
            found.images()
    with pytest.raises(AdshiftError, match="level 0 of the features, which have 1"):
        found.maps(0)
