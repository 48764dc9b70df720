"""CFA fed from stored feature maps against anomalib's own path from image to score, and what its fit must be."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import students
from adshift.detectors.cfa import Cfa, Fit, Score, patches, soft_boundary
from adshift.errors import AdshiftError
from adshift.runtime.parallel import torch_threads

FIT = Fit(
    layers=(1, 2, 3), neighbours=3, hard_negatives=3, radius=1e-5, epochs=3, batch=4, learning_rate=1e-3
)  # fmt: skip
HOW = Score(smoothing=4.0)
TRAIN = 12  # a multiple of the batch: anomalib's mean takes batches for equally large


def fit(count: int = TRAIN, settings: Fit = FIT) -> Cfa:
    model = Cfa(settings)
    model.fit(students.features(students.images(count)), np.random.default_rng(1))
    return model


@pytest.fixture(scope="module")
def fitted() -> Cfa:
    return fit()


@pytest.fixture
def theirs(monkeypatch: pytest.MonkeyPatch) -> Any:
    """anomalib's CfaModel of ResNet-18 on our random weights; its own constructor would fetch weights."""
    import torch
    from anomalib.models.image.cfa import torch_model

    class Extractor(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = students.network("resnet18")

        def forward(self, images: Any) -> dict[str, Any]:
            return dict(zip(students.LAYERS["resnet18"], self.network(images), strict=True))

    monkeypatch.setattr(torch_model, "get_feature_extractor", lambda *_: Extractor())
    return torch_model.CfaModel("resnet18", 1, 1, FIT.neighbours, FIT.hard_negatives, FIT.radius)


def first_descriptor() -> tuple[Any, Any]:
    """Weight and bias that our fit starts from, drawn as it draws them."""
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(np.random.default_rng(1).integers(2**63)))
        layer = torch.nn.Linear(450, 448)
    return layer.weight.detach(), layer.bias.detach()


@torch_threads(1)
def test_a_whole_training_is_anomalibs(theirs: Any, fitted: Cfa) -> None:
    """Same start, same batches: bank, loss, descriptor, maps and scores of both."""
    import torch
    from anomalib.models.image.cfa.loss import CfaLoss

    conv, images = theirs.descriptor.layer.conv2d, students.normalised(students.images(TRAIN))
    conv.weight.data[:, :, 0, 0], conv.bias.data = first_descriptor()
    theirs.initialize_centroid([SimpleNamespace(image=images[i : i + 4]) for i in range(0, TRAIN, 4)])
    np.testing.assert_allclose(fitted.bank, theirs.memory_bank.detach().numpy().T, rtol=1e-4, atol=1e-5)

    generator = np.random.default_rng(1)
    generator.integers(2**63)
    loss, optimizer = CfaLoss(3, 3, FIT.radius), torch.optim.AdamW(
        theirs.descriptor.parameters(), lr=1e-3, weight_decay=5e-4, amsgrad=True
    )  # fmt: skip
    theirs.train()
    for epoch in range(FIT.epochs):
        order, total = generator.permutation(TRAIN), 0.0
        for start in range(0, TRAIN, 4):
            optimizer.zero_grad()
            value = loss(theirs(images[order[start : start + 4]]))
            value.backward(retain_graph=True)  # as their training does: the loss keeps a graph of its radius
            optimizer.step()
            total += float(value.detach()) * 4 / TRAIN
        np.testing.assert_allclose(fitted.history[epoch], total, rtol=1e-4)
    np.testing.assert_allclose(fitted.weight, conv.weight.detach()[:, :, 0, 0].numpy(), atol=1e-4)

    test = students.images(5, seed=7)
    with torch.inference_mode():
        expected = theirs.eval()(students.normalised(test))
    found = fitted.predict(students.features(test), HOW)
    np.testing.assert_allclose(found.full_maps(), expected.anomaly_map.numpy(), rtol=1e-3)
    np.testing.assert_allclose(found.scores, expected.pred_score.numpy(), rtol=1e-3)


@pytest.mark.parametrize("radius", [1e-5, 0.7, 2.0])
def test_the_loss_is_anomalibs(radius: float) -> None:
    """At the usual radius nothing repels: both terms are seen at larger ones."""
    import torch
    from anomalib.models.image.cfa.loss import CfaLoss

    distances = torch.rand(2, 50, 40, generator=torch.Generator().manual_seed(0)) * 3
    theirs = CfaLoss(4, 2, radius)(distances).detach()
    settings = FIT.model_copy(update={"radius": radius, "neighbours": 4, "hard_negatives": 2})
    nearest = distances.topk(6, largest=False).values
    np.testing.assert_allclose(float(soft_boundary(nearest, settings)), float(theirs), rtol=1e-5)


def test_patches_hold_their_place() -> None:
    found = patches(students.features(students.images(2)), (2, 3))
    assert found.shape == (2, 8, 8, 128 + 256 + 2)
    np.testing.assert_allclose(found[1, :, 3, -2], np.linspace(-1, 1, 8), rtol=1e-6)
    np.testing.assert_allclose(found[1, 3, :, -1], np.linspace(-1, 1, 8), rtol=1e-6)


def test_training_lowers_the_loss_and_a_defect_stands_out(fitted: Cfa) -> None:
    assert fitted.history[-1] < fitted.history[0]
    test = students.images(6, seed=7)
    test[3:, 20:44, 20:44] = students.images(3, seed=8)[:, 20:44, 20:44, ::-1] // 3
    found = fitted.predict(students.features(test), HOW).scores
    assert found[3:].min() > found[:3].max()


def test_a_saved_model_predicts_the_same(tmp_path: Path, fitted: Cfa) -> None:
    fitted.save(tmp_path / "model")
    given = students.features(students.images(5, seed=7))
    np.testing.assert_array_equal(
        Cfa.load(tmp_path / "model").predict(given, HOW).maps, fitted.predict(given, HOW).maps
    )


@torch_threads(1)
def test_the_number_of_threads_changes_no_byte(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    train, test, found = *(students.features(students.images(count, seed=count)) for count in (10, 9)), []
    for threads in (1, 2):
        monkeypatch.setenv("ADSHIFT_THREADS", str(threads))
        torch.set_num_threads(threads)
        torch.manual_seed(threads)  # another state of torch's own generator, which must not matter
        model = Cfa(FIT)
        model.fit(train, np.random.default_rng(1))
        model.save(tmp_path / str(threads))
        maps = model.predict(test, HOW).maps
        found.append(((tmp_path / str(threads) / "model.safetensors").read_bytes(), maps.tobytes()))
    assert found[0] == found[1]


def test_what_is_refused(fitted: Cfa) -> None:
    with pytest.raises(AdshiftError, match="no training image"):
        Cfa(FIT).fit(students.features(students.images(2))[:0], np.random.default_rng(1))
    with pytest.raises(AdshiftError, match="17 neighbours of 16 positions"):
        fit(3, FIT.model_copy(update={"layers": (3,), "neighbours": 14}))
    with pytest.raises(AdshiftError, match="level 4 of the features"):
        fit(3, FIT.model_copy(update={"layers": (2, 4)}))
    with pytest.raises(AdshiftError, match="another network"):
        fitted.predict(students.features(students.images(2), "tf_efficientnet_lite0"), HOW)
