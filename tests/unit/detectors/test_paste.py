"""PaSTe: its formulas against anomalib's STFPM, its student against the backbone, and what its fit must be."""

from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

import students
from adshift.detectors.components import training
from adshift.detectors.components.students import distances
from adshift.detectors.paste import Fit, PaSTe, Score, stages_behind
from adshift.errors import AdshiftError
from adshift.runtime.parallel import torch_threads

FIT = Fit(shared=1, layers=(2, 3), epochs=6, batch=4, learning_rate=0.4)
HOW = Score(smoothing=0.0)


def fit(count: int = 10) -> PaSTe:
    model = PaSTe(FIT)
    model.fit(students.features(students.images(count)), np.random.default_rng(1))
    return model


@pytest.fixture(scope="module")
def fitted() -> PaSTe:
    return fit()


@pytest.mark.parametrize("backbone", list(students.LAYERS))
def test_the_students_stages_are_those_behind_the_shared_layer(backbone: str) -> None:
    """Given the teacher's weights, they turn the shared layer's map into the teacher's deeper maps."""
    import torch

    names = students.LAYERS[backbone]
    student = stages_behind(backbone, {}, names[0], names[1:]).eval()
    weights = students.network(backbone).state_dict()
    prefix = "blocks." if backbone.startswith("tf") else ""
    student.load_state_dict({key: weights[prefix + key] for key in student.state_dict()})
    given = students.features(students.images(3), backbone)
    with torch.inference_mode():
        found = student(training.tensor(given.maps(1)))
    assert len(found) == 2
    for level, maps in zip((2, 3), found, strict=True):
        np.testing.assert_allclose(maps.permute(0, 2, 3, 1).numpy(), given.maps(level), rtol=1e-4, atol=1e-5)


def test_the_loss_and_the_map_are_anomalibs() -> None:
    """Its loss is summed over the batch where ours is a mean; its map lies on the grid that it is given."""
    import torch
    from anomalib.models.image.stfpm.anomaly_map import AnomalyMapGenerator
    from anomalib.models.image.stfpm.loss import STFPMLoss

    model, given = fit(), students.features(students.images(5, seed=7))
    with torch.inference_mode():
        taught = [torch.from_numpy(given.maps(level).transpose(0, 3, 1, 2).copy()) for level in (2, 3)]
        found = [maps.contiguous() for maps in model.student(training.tensor(given.maps(1)))]
        ours = sum(layer.mean() for layer in distances(taught, found))
        teacher, student = (dict(zip("ab", maps, strict=True)) for maps in (taught, found))
        theirs = STFPMLoss()(teacher, student) / 5
        grid = AnomalyMapGenerator()(teacher_features=teacher, student_features=student, image_size=(8, 8))
    np.testing.assert_allclose(float(ours), float(theirs), rtol=1e-5)
    predicted = model.predict(given, HOW)
    np.testing.assert_allclose(predicted.maps, grid[:, 0].numpy(), rtol=1e-4, atol=1e-8)
    np.testing.assert_allclose(predicted.scores, predicted.full_maps().max((1, 2)))


def test_training_lowers_the_loss_and_a_defect_stands_out(fitted: PaSTe) -> None:
    assert fitted.history[-1] < fitted.history[0] / 2
    test = students.images(6, seed=7)
    test[3:, 20:44, 20:44] = students.images(3, seed=8)[:, 20:44, 20:44, ::-1] // 3
    found = fitted.predict(students.features(test), HOW).scores
    assert found[3:].min() > found[:3].max()


def test_no_shared_layer_is_in_the_model(fitted: PaSTe) -> None:
    assert {name.split(".")[0] for name in fitted.arrays} == {"layer2", "layer3"}


def test_a_saved_model_predicts_the_same(tmp_path: Path, fitted: PaSTe) -> None:
    fitted.save(tmp_path / "model")
    given = students.features(students.images(9, seed=7))
    np.testing.assert_array_equal(
        PaSTe.load(tmp_path / "model").predict(given, HOW).maps, fitted.predict(given, HOW).maps
    )


@pytest.mark.parametrize("backbone", list(students.LAYERS))
@torch_threads(1)
def test_the_number_of_threads_changes_no_byte(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, backbone: str) -> None:
    import torch

    train, test = (students.features(students.images(count, seed=count), backbone) for count in (8, 17))
    found = []
    for threads in (1, 2):
        monkeypatch.setenv("ADSHIFT_THREADS", str(threads))
        torch.set_num_threads(threads)
        torch.manual_seed(threads)  # another state of torch's own generator, which must not matter
        model = PaSTe(FIT.model_copy(update={"epochs": 2}))
        model.fit(train, np.random.default_rng(1))
        assert torch.get_num_threads() == threads
        model.save(tmp_path / str(threads))
        maps = model.predict(test, HOW).maps
        found.append(((tmp_path / str(threads) / "model.safetensors").read_bytes(), maps.tobytes()))
    assert found[0] == found[1]


def test_images_of_pooled_classes_may_share_names() -> None:
    """Batches are drawn by place: two classes both have an image test/good/1."""
    one, two = (students.features(students.images(3, seed)) for seed in (0, 1))
    found = (one + two).take([4, 1]).maps(1)
    np.testing.assert_array_equal(found, np.stack([two.maps(1)[1], one.maps(1)[1]]))


def test_another_seed_is_another_student(fitted: PaSTe) -> None:
    other = PaSTe(FIT.model_copy(update={"epochs": 1}))
    other.fit(students.features(students.images(10)), np.random.default_rng(2))
    assert not np.array_equal(other.arrays["layer2.0.conv1.weight"], fitted.arrays["layer2.0.conv1.weight"])


def test_layers_that_are_not_deeper_are_refused() -> None:
    with pytest.raises(ValidationError, match="layers must be deeper than the shared one"):
        Fit(shared=2, layers=(2, 3), epochs=1, batch=4, learning_rate=0.1)


def test_what_is_refused(fitted: PaSTe) -> None:
    with pytest.raises(AdshiftError, match="at least 2"):
        fit(1)
    with pytest.raises(AdshiftError, match=r"layer1 are not stages of resnet18 that follow layer3"):
        stages_behind("resnet18", {}, "layer3", ["layer1"])
    with pytest.raises(AdshiftError, match="not stages of tf_efficientnet_lite0 that follow"):
        stages_behind("tf_efficientnet_lite0", {}, "conv_stem", ["blocks.1"])
    other = students.features(students.images(2), "tf_efficientnet_lite0")
    with pytest.raises(AdshiftError, match="another network"):
        fitted.predict(other, HOW)
