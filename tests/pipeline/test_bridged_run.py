"""A model of anomalib through the whole pipeline, held against anomalib called by hand."""

import contextlib
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file

import adshift
from adshift.data import manifest, split_file
from adshift.data.images import load_image
from adshift.detectors.records import Predictions
from adshift.project.paths import scores_path, split_path
from adshift.runtime.files import read_json
from tiny import Project, rewrite, write_tree
from trained import adshift as adshift_here

METHOD, NAME = "anomalib_dfm", "dots"
SECTION = {"model": "Dfm", "weights": "w.safetensors", "epochs": None, "batch": 4, "backbone": "resnet18",
           "layer": "layer2", "pooling_kernel_size": 2}  # fmt: skip


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Project:
    project = Project(tmp_path_factory.mktemp("bridged")).copy()
    write_tree(project.folder / "raw", (NAME,))
    torch.manual_seed(0)
    state = timm.create_model("resnet18").state_dict()
    save_file({name: one.contiguous() for name, one in state.items()}, project.folder / "w.safetensors")
    rewrite(project.folder / "params.yaml", {
        "dataset.name": "mvtec", "dataset.root": "raw", "classes": [NAME], "methods": [METHOD], METHOD: SECTION,
        "features.resize": 64, "features.images": True, "shift.kind": "none", "unified": False,
        "ablation.ratios": [], "scenarios": ["clean"],
    })  # fmt: skip
    project.run("adshift", "repro", "--jobs", "2")
    return project


def test_scores_are_anomalibs(run: Project) -> None:
    from anomalib.models.image.dfm.torch_model import DFMModel

    with contextlib.chdir(run.folder):
        scores = Predictions.load(scores_path("test", "mvtec", METHOD, NAME, "clean-on-clean", NAME))
        items = {item.name: item for item in manifest.read(manifest.path_of("mvtec", NAME, "clean"))}
        train = split_file.images_of(split_file.read(split_path("mvtec", NAME), "clean"), "train")
        pixels = {name: load_image(items[name]) for name in (*train, *scores.names)}
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))

    def inputs(names: tuple[str, ...]) -> torch.Tensor:
        batch = torch.from_numpy(np.stack([pixels[name] for name in names])).permute(0, 3, 1, 2)
        return ((batch / 255 - mean) / std).contiguous()

    torch.manual_seed(0)
    whole = timm.create_model("resnet18")
    model = DFMModel("resnet18", "layer2", pre_trained=False, pooling_kernel_size=2)
    outcome = model.feature_extractor.feature_extractor.load_state_dict(whole.state_dict(), strict=False)
    assert not outcome.missing_keys
    with torch.no_grad():
        model.train()
        model(inputs(train))
        model.fit()
        theirs = model.eval()(inputs(scores.names))
    np.testing.assert_allclose(scores.scores, theirs.pred_score.numpy(), rtol=1e-4)
    np.testing.assert_allclose(scores.full_maps(), theirs.anomaly_map[:, 0].numpy(), rtol=1e-3, atol=1e-4)


def test_it_is_evaluated_packaged_and_loads(run: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(run.folder)
    figures = read_json(Path("metrics/summary.json"))[METHOD]["clean"]
    assert figures["image_auroc"] > 0.9
    assert figures["pixel_auroc"] > 0.7
    assert "anomalib: dfm" in Path("report/index.html").read_text()
    folder = Path("models/mvtec") / METHOD / NAME / "clean"
    assert read_json(folder / "model.json")["method"] == METHOD
    assert "anomalib" in (folder / "README.md").read_text()
    scores = Predictions.load(scores_path("test", "mvtec", METHOD, NAME, "clean-on-clean", NAME))
    items = {item.name: item for item in manifest.read(manifest.path_of("mvtec", NAME, "clean"))}
    weights = run.folder / "w.safetensors"
    aside = weights.rename(run.folder / "aside.safetensors")  # a fitted model holds its own backbone
    predictions = adshift.load(folder).predict([items[name].image for name in scores.names])
    aside.rename(weights)
    np.testing.assert_array_equal([one.score for one in predictions], scores.scores)
    refused = run.run("adshift", "export", str(folder), "--format", "onnx", "--to", "model.onnx", ok=False)
    assert refused.returncode == 1
    assert METHOD in refused.stderr


def test_a_bad_section_is_told_before_any_work(run: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(run.folder)

    def told(**values: object) -> str:
        rewrite(Path("params.yaml"), {"methods": [METHOD], METHOD: SECTION, **values})
        output, end = adshift_here("check")
        assert output == ""
        return str(end)

    assert "anomalib_dfm.layers: Dfm has no argument of this name" in told(**{METHOD: {**SECTION, "layers": 3}})
    assert "anomalib has no model Dfn" in told(**{METHOD: {**SECTION, "model": "Dfn"}})
    assert "none.pth is not a file" in told(**{METHOD: {**SECTION, "weights": "none.pth"}})
    assert "anomalib_other is missing" in told(methods=[METHOD, "anomalib_other"])
    assert "trains on images" in told(**{"features.images": False})
