"""Load a model, from its directory or an exported file.

model = adshift.load("models/sample/patchcore/hazelnut/clean")  # or "hazelnut.onnx"
for prediction in model.predict(["part-1.png", "part-2.png"]):
    print(prediction.name, prediction.score, prediction.anomalous)
"""

from pathlib import Path

from adshift.deploy import graph_file
from adshift.deploy.inference import Model
from adshift.errors import AdshiftError


def load(
    model: str | Path,
    *,
    threshold: float | str | Path | None = None,
    class_name: str | None = None,
    weights: str | Path | None = None,
    cache: str | Path | None = None,
) -> Model:
    """Load a model from its directory, from an exported file, or by reference.

    Args:
        model: a model directory, an exported `.onnx` file, or `REPO#METHOD/CLASS/DOMAIN@REV` (`adshift.deploy.pull`).
        threshold: a score, or a threshold file (of the model's folder if it does not exist as a path); the model's own
            threshold if not given.
        class_name: class whose threshold a unified model uses; by default the threshold for all classes.
        weights: file of the backbone's weights, for a model directory whose backbone got them from a file.
        cache: where models fetched by reference are kept.

    Raises:
        AdshiftError: a file is missing or damaged, the backbone's weights differ from those that the model was fitted
            with, the reference does not exist, or a package is missing that the model needs.
    """
    if graph_file.is_file(model):
        from adshift.deploy.graph import GraphModel

        return GraphModel(model, threshold=threshold, class_name=class_name)
    from adshift.deploy import pull
    from adshift.deploy.directory import DirectoryModel

    folder = pull.fetch(str(model), cache) if pull.is_reference(str(model)) else Path(model)
    return DirectoryModel(folder, threshold=threshold, class_name=class_name, weights=weights)


def check(model: str | Path) -> None:
    """Check that there is a model, before packages are loaded that take seconds; a reference is not looked up.

    Raises:
        AdshiftError: there is none.
    """
    file = Path(model) if graph_file.is_file(model) else Path(model, "model.json")
    if "#" not in str(model) and not file.is_file():
        known = "an exported FILE.onnx, a model directory (docs/models.md), or REPO#METHOD/CLASS/DOMAIN@REV"
        raise AdshiftError(f"{file}: not there", f"name {known}")
