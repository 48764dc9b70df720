"""Every model of anomalib as a method: a section of params.yaml whose name begins with `anomalib_`.

The model trains on the network's inputs (`features.images`) in lightning's Trainer, as anomalib's Engine runs it, with
its own optimizer, preprocessing and number of epochs. Engine itself would also write a folder of results and
checkpoints. Within `training.reproducible` equal inputs give equal bytes.

Pretrained weights come from a file, a package or the hub's cache, never from a network: `offline` refuses every
connection. A fitted model holds all of its tensors, those of the backbone too, so a copy of it needs no other file.

Notation: N images, h x w pixels of the network's input.
"""

import hashlib
import inspect
import logging
import re
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache, cached_property
from pathlib import Path
from typing import Annotated, Any, ClassVar

import numpy as np
from pydantic import Field

from adshift.data.shapes import compact, sides
from adshift.detectors import storage
from adshift.detectors.base import Detector
from adshift.detectors.components import anomalib_inputs, pretrained, signature, training
from adshift.detectors.components.settings import Epochs
from adshift.detectors.components.whole_maps import without_padding
from adshift.detectors.records import Predictions
from adshift.errors import AdshiftError, in_line
from adshift.features.settings import Deviation, Mean
from adshift.features.store import Features
from adshift.runtime.parallel import torch_threads
from adshift.runtime.settings import Batch, Number, Section

OURS = ("pre_processor", "post_processor", "evaluator", "visualizer")  # arguments of every model that are set here
Plain = (
    bool
    | Annotated[int, Field(ge=-(10**9), le=10**9)]
    | Annotated[Number, Field(ge=-1e9, le=1e9)]
    | Annotated[str, Field(max_length=200)]
    | None
)
Argument = Plain | Annotated[tuple[Plain, ...], Field(min_length=0, max_length=100)]


class Fit(Section):
    """The model and how it is trained. All further keys are arguments of the model's class in anomalib.

    Attributes:
        model: name of the class, such as Dfm.
        weights: file of the backbone's weights; empty for a packaged backbone, or the hub's cache.
        epochs: passes over the training images; empty for as many as the model itself sets.
        batch: images per step.
        mean, std: of the channels, for the backbone's weights; the model's own (ImageNet's) if not given.
        weights_sha256: of the file `weights`, which the stage `check` writes down.
    """

    model_config = Section.model_config | {"extra": "allow"}
    __pydantic_extra__: dict[str, Argument]

    model: Annotated[str, Field(pattern=r"^[A-Za-z0-9]{1,40}$")]
    weights: str | None
    epochs: Epochs | None
    batch: Batch
    mean: tuple[Mean, Mean, Mean] | None = None
    std: tuple[Deviation, Deviation, Deviation] | None = None
    weights_sha256: str | None = None

    @property
    def arguments(self) -> dict[str, Any]:
        """Of the model's class."""
        extra = self.__pydantic_extra__ or {}
        return {name: list(value) if isinstance(value, tuple) else value for name, value in extra.items()}

    @classmethod
    def written(cls, values: Mapping[str, Any]) -> dict[str, Any]:
        """Values for `fit`, with the hash of the file of weights, which DVC does not track."""
        if not values["weights"]:
            return dict(values)
        pretrained.check_file(values["weights"], "weights")
        with Path(values["weights"]).open("rb") as file:
            return {**values, "weights_sha256": hashlib.file_digest(file, "sha256").hexdigest()}


class Score(Section):
    """Nothing: a model of anomalib scores as it was fitted."""


def warm_up() -> None:
    """Import what `fit` needs: about 8 seconds, which the time of a fit excludes."""
    _anomalib()
    training.warm_up()


def _anomalib() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # raised by anomalib's own imports
        from anomalib.models import image
    return image


def models() -> dict[str, Any]:
    """{name: class} of anomalib's models of images."""
    image = _anomalib()
    return {name: getattr(image, name) for name in sorted(image.__all__) if inspect.isclass(getattr(image, name))}


def check(method: str, settings: Fit) -> None:
    """Refuse a section that anomalib could not take, before any work.

    Raises:
        AdshiftError: an unknown model, or arguments that its class does not have, or missing, or of a wrong type.
    """
    if settings.weights:
        pretrained.check_file(settings.weights, f"params.yaml: {method}.weights")
    _model_class(method, settings)


def _model_class(method: str, settings: Fit) -> tuple[Any, dict[str, Any]]:
    """The class of the model and its arguments, checked against its signature."""
    known = models()
    if settings.model not in known:
        remedy = f"choose from {', '.join(known)}"
        raise AdshiftError(f"params.yaml: {method}.model: anomalib has no model {settings.model}", remedy)
    kind = known[settings.model]
    return kind, signature.checked(f"params.yaml: {method}", kind, settings.arguments, OURS)


@contextmanager
def _quiet() -> Iterator[None]:
    """Within: lightning and anomalib print nothing."""
    loggers = [logging.getLogger(name) for name in ("lightning", "lightning.pytorch", "anomalib", "lightning.fabric")]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)


class Bridged(Detector):
    """A model of anomalib. `bridged` makes the class of a method.

    Attributes:
        arrays: the model's parameters and buffers, by name.
    """

    name: ClassVar[str] = "anomalib_"
    needs_images = True
    settings: Fit

    @classmethod
    def levels(cls, settings: Any) -> tuple[int, ...]:
        """None: the model has a backbone of its own."""
        return ()

    def _built(self, use_weights: bool) -> Any:
        """The untrained model: a lightning module.

        Args:
            use_weights: whether its backbone gets pretrained weights; otherwise random ones, to be overwritten.
        """
        kind, arguments = _model_class(self.name, self.settings)
        size = sides(self.spec["size"])
        file = Path(self.settings.weights) if self.settings.weights and use_weights else None
        named = signature.parameters(kind)
        backbones = {str(arguments.get(name, default)) for name, default in named.items() if name.endswith("backbone")}
        with self._foreign("could not be built"), pretrained.weights(self.name, backbones, file, use_weights):
            given = kind.configure_pre_processor(image_size=size)
            pre_processor = anomalib_inputs.normalizing(self.name, given, self.settings.mean, self.settings.std)
            ours = dict.fromkeys(OURS, False) | {"pre_processor": pre_processor}
            return kind(**arguments, **{name: value for name, value in ours.items() if name in named})

    @contextmanager
    def _foreign(self, failure: str) -> Iterator[None]:
        """Within: anomalib's code runs, prints nothing and reaches no network; what it raises is told as `failure`."""
        with _quiet(), pretrained.offline():
            try:
                yield
            except AdshiftError:
                raise
            except Exception as error:  # 30 models raise many kinds
                raise AdshiftError(
                    f"{self.name}: anomalib's {self.settings.model} {failure} ({in_line(error)[:300]})",
                    f"correct {self.name} in params.yaml; docs/anomalib.md says what each model needs",
                ) from None

    def fit(self, features: Features, generator: np.random.Generator) -> None:
        """Train the model, and check that its stored tensors give its scores again.

        Raises:
            AdshiftError: no training image, a model that needs what is not there, or one that cannot be stored.
        """
        import torch

        if not len(features):
            raise AdshiftError(f"{self.name} got no training image", "check the split")
        if self.settings.weights_sha256:
            pretrained.check_hash(self.settings.weights or "", self.settings.weights_sha256, self.name)
        self.spec = dict(features.spec)
        with training.reproducible(generator), pretrained.seeded(generator):
            module = self._built(use_weights=True)
            order = torch.Generator().manual_seed(int(generator.integers(2**63)))
            self._train(module, anomalib_inputs.data(features, self.settings.batch, order))
        module.eval()
        self.arrays = training.arrays_of(module.model)
        self._check_stored(module, features[:2])

    def _train(self, module: Any, data: Any) -> None:
        from lightning.pytorch import Trainer

        own = dict(module.trainer_arguments)
        if self.settings.epochs is not None:
            own["max_epochs"] = self.settings.epochs
        if not {"max_epochs", "max_steps"} & own.keys():
            message = f"params.yaml: {self.name}.epochs is empty, and {self.settings.model} sets no number of epochs"
            raise AdshiftError(message, f"set {self.name}.epochs")
        fixed: dict[str, Any] = {
            "accelerator": "cpu", "devices": 1, "logger": False, "enable_checkpointing": False,
            "enable_progress_bar": False, "enable_model_summary": False, "num_sanity_val_steps": 0,
            "limit_val_batches": 0, "inference_mode": True,
        }  # fmt: skip
        with tempfile.TemporaryDirectory() as folder, self._foreign("could not be fitted"):
            Trainer(**{**own, **fixed}, default_root_dir=folder).fit(module, datamodule=data)

    def _check_stored(self, module: Any, images: Features) -> None:
        """Refuse a model whose state dict is not all that its scores depend on."""
        with self._foreign("was fitted, but does not score"):
            fitted, stored = self._scored(module, images), self._scored(self.module, images)
        # Tensors of another layout in memory are summed in another order.
        pairs = zip(fitted, stored, strict=True)
        if not all(np.allclose(one, other, rtol=1e-3, atol=1e-4 * np.abs(one).max()) for one, other in pairs):
            raise AdshiftError(
                f"{self.name}: anomalib's {self.settings.model} keeps part of its fit outside its state dict, and would"
                " score otherwise when it is loaded",
                "use another model (docs/anomalib.md)",
            )

    @cached_property
    def module(self) -> Any:
        """The fitted model, built from `arrays` at the first scoring."""
        import torch

        with torch.random.fork_rng(devices=[]):
            module = self._built(use_weights=False)
        training.restore(module.model, self.arrays)
        return module.eval()

    def _scored(self, module: Any, features: Features) -> tuple[np.ndarray, np.ndarray]:
        """Raw scores (N,) and maps (N, h, w), both float32; of a model without maps, the scores as maps (N, 1, 1).

        One image at a time, so that no value depends on the other images.
        """
        import torch

        scores, maps = [], []
        with torch.inference_mode(), _quiet():
            for index in range(len(features)):
                result = module(anomalib_inputs.batch(features[index : index + 1].images()))
                score = result.pred_score.reshape(1, 1).float()
                anomaly_map = score if result.anomaly_map is None else result.anomaly_map
                scores.append(float(score))
                maps.append(anomaly_map.reshape(anomaly_map.shape[-2:]).float().numpy())
        return np.array(scores, np.float32), np.stack(maps)

    @torch_threads(1)
    def _predict(self, features: Features, scoring: Score) -> Predictions:
        """The model's own raw scores and anomaly maps, before anomalib normalizes them."""
        scores, maps = self._scored(self.module, features)
        size = compact(features.spec["size"])
        maps = maps if maps.shape[1:] == (1, 1) else without_padding(features, maps)
        return Predictions(features.names, scores, maps, size, 0.0)

    def save(self, folder: Path) -> None:
        """Write model.json and model.safetensors into `folder`; of the file of weights its name and hash alone."""
        weights = self.settings.weights and Path(self.settings.weights).name
        settings = {**dict(self.settings), "weights": weights}
        storage.save(folder, self.name, settings, self.spec, self.to_arrays())

    def to_arrays(self) -> dict[str, np.ndarray]:
        """All parameters and buffers."""
        return self.arrays

    def from_arrays(self, folder: Path, arrays: dict[str, np.ndarray]) -> None:
        """Check and take the arrays of `to_arrays`."""
        self.arrays = arrays
        try:
            _ = self.module
        except (AdshiftError, AttributeError, KeyError, IndexError, TypeError, ValueError, RuntimeError) as error:
            message = f"{folder}: no {self.settings.model} of anomalib ({str(getattr(error, 'what', error))[:300]})"
            raise AdshiftError(message, storage.REMEDY) from None


@cache
def bridged(method: str) -> type[Bridged]:
    """The class of a method whose name begins with `anomalib_`."""
    model = re.sub(r"[_-]+", " ", method.removeprefix("anomalib_"))
    texts = {"name": method, "label": f"anomalib: {model}", "artifact": f"anomalib's {model}"}
    return type("Bridged", (Bridged,), {**texts, "__module__": __name__})
