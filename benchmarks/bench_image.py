"""One image end to end (decode, network, search, full anomaly map) in a warm process, and the network's forward alone.

    image.NETWORK.METHOD            ours against the bare forward: the network as timm builds it for the same layers and
                                    anomalib runs it, on a decoded tensor, eager, channels-last, in inference mode, on
                                    as many threads; each in a process of its own, in turns. `cut` is that forward
                                    without what no output needs, `settled` the same with our settings of allocator and
                                    threads, `fused` the network as ours runs it
    image.NETWORK.METHOD.anomalib   ours against anomalib's model end to end, same weights, same bank or Gaussians, in
                                    one process

METHOD is exact or hnsw (PatchCore with a greedily selected bank of 11,760 rows) or padim. What would be
image.lite0.exact is `image`. A ResNet-50's weights are random here, so its AUROC says only what the graph loses.
"""

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from harness import (
    Entry,
    Pictures,
    alone,
    as_any_script,
    at_most,
    backbone,
    embedded,
    entry,
    measure,
    patchcore,
    pictures,
    settings_of,
    share,
    together,
    torch_threads,
    warm,
)

ROWS = 11_760
TARGETS = {"exact": 2.5, "hnsw": 1.4, "padim": 1.3}  # multiples of the bare forward
WARM = 10  # rounds in a process, after a first one
BARE = ("bare", "cut")  # kinds of a forward alone
METHODS = {"lite0": ("exact", "hnsw", "padim"), "resnet50": ("exact", "hnsw")}


def run(
    rows: int = ROWS, fitted: int = 60, timed: int = 10, scored: int = 40, rounds: int = 5,
    networks: tuple[str, ...] = tuple(METHODS),
) -> dict[str, Entry]:  # fmt: skip
    """Entries.

    Args:
        rows: of the banks.
        fitted: images that the models are fitted on.
        timed: images of one round.
        scored: normal images, and as many defective ones, for the AUROC.
        rounds: of every measurement.
        networks: of METHODS.
    """
    entries: dict[str, Entry] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        found = pictures(folder, fitted + max(timed, scored), scored)
        for network in networks:
            entries |= _compare(network, found, folder / network, rows, fitted, timed, scored, rounds)
    return {"image": entries.pop(f"image.{networks[0]}.exact"), **entries}


def _compare(network: str, found: Pictures, folder: Path, rows: int, fitted: int, timed: int, scored: int, rounds: int
             ) -> dict[str, Entry]:  # fmt: skip
    import torch

    from adshift.evaluation.metrics.ranking import auroc
    from adshift.features.backbones import cut, full_model

    folder.mkdir()
    net = backbone(network, folder)
    features = embedded(found.normal[:fitted], net, folder / "features")
    ours = models(features, rows, METHODS[network])
    torch_threads()
    tests = found.normal[fitted:]

    calls = {name: _each(tests[:timed], lambda file, name=name: whole(file, net, *ours[name])) for name in ours}
    peers = {name: anomalibs(net, *ours[name]) for name in ours if name != "hnsw"}
    calls |= {f"anomalib {name}": _each(tests[:timed], call) for name, call in peers.items()}
    tensor = _tensor(_read(tests[0], net), net).contiguous(memory_format=torch.channels_last)
    plain = cut(full_model(net.settings), net.settings.backbone, net.names)
    for name, forward in {"settled": plain, "fused": net.fused}.items():
        calls[name] = _each(tests[:timed], lambda _, forward=forward: _bare(forward, tensor))
    for call in calls.values():
        call()
    took = measure(calls, rounds, of=timed)
    files = [str(file) for file in tests[:timed]]
    for name, (detector, _) in ours.items():
        detector.save(folder / name)
    apart = {name: ("bench_image:bare", network, name, files[0], timed, str(folder)) for name in BARE}
    apart |= {name: ("bench_image:own", network, name, files, str(folder)) for name in ours}
    children: dict[str, list[dict[str, Any]]] = {name: [] for name in apart}
    for _ in range(rounds):
        for name, call in apart.items():
            children[name].append(alone(*call))
    own = {name: together(found) for name, found in children.items()}

    labels = np.arange(2 * scored) >= scored
    area = {}
    for name, model in ours.items():
        scores = [whole(file, net, *model)[0] for file in [*tests[:scored], *found.defective[:scored]]]
        area[name] = auroc(np.array(scores), labels)
    weights = "" if network == "lite0" else ", random weights"
    facts = {"of": f"{found.of}, {net.settings.backbone}{weights}", "auroc": area, "unit": "s an image",
             "cut": own["cut"]["seconds"],
             **{name: took[name]["seconds"] for name in ("settled", "fused")}}  # fmt: skip
    entries = {}
    for name in ours:
        targets = [at_most("ours / bare forward", share(own, name, "bare"), TARGETS[name])]
        if name == "hnsw":
            targets.append(at_most("AUROC, exact less hnsw", area["exact"] - area["hnsw"], 0.002))
        entries[f"image.{network}.{name}"] = entry(own, *targets, ours=name, peer="bare",
                                                     ours_of_cut=share(own, name, "cut"), **facts)  # fmt: skip
    for name in peers:
        entries[f"image.{network}.{name}.anomalib"] = entry(took, ours=name, peer=f"anomalib {name}", **facts)
    return entries


def bare(network: str, kind: str, file: str, timed: int, folder: str) -> dict[str, Any]:
    """For `alone`: seconds of one forward of a kind of BARE, and its memory, in a warm process."""
    as_any_script()
    import torch

    from adshift.features.backbones import cut, full_model, layers

    settings = settings_of(network, Path(folder))
    full, names = full_model(settings), layers(settings)
    plain = cut(full, settings.backbone, names) if kind == "cut" else timms(full, settings.backbone, names)
    del full  # as a script has it, whose state dict is gone
    torch_threads()
    image = torch.from_numpy(fit_image(Path(file), settings)).permute(2, 0, 1)[None].float().div(255).sub(0.5)
    tensor = image.contiguous(memory_format=torch.channels_last)

    def call() -> None:
        for _ in range(timed):
            _bare(plain, tensor)

    return warm(call, WARM, of=timed)


def timms(full: Any, name: str, names: Sequence[str]) -> Any:
    """The network that timm builds for the maps of these layers, channels-last, with the weights of `full`."""
    import timm
    import torch

    indices = [i for i, stage in enumerate(full.feature_info) if stage["module"] in names]
    network = timm.create_model(name, features_only=True, out_indices=indices, pretrained=False)
    network.load_state_dict(full.state_dict(), strict=False)  # what is not there, no map needs
    return network.eval().to(memory_format=torch.channels_last)


def own(network: str, method: str, files: list[str], folder: str) -> dict[str, Any]:
    """For `alone`: seconds of an image end to end by the model of `method`, and its memory, in a warm process."""
    from adshift.detectors import registry
    from adshift.project import params

    net = backbone(network, Path(folder))
    kind = "padim" if method == "padim" else "patchcore"
    detector = registry.detector_class(kind).load(Path(folder) / method)
    how = registry.schemas(kind)["score"].within(dict(getattr(params.load(kind), kind)))
    torch_threads()
    call = _each([Path(file) for file in files], lambda file: whole(file, net, detector, how))
    return warm(call, WARM, of=len(files))


def models(features: Any, rows: int, methods: tuple[str, ...]) -> dict[str, tuple[Any, Any]]:
    """{method: (detector, settings of scoring)}."""
    from adshift.detectors.padim import Fit, Padim, Score
    from adshift.project import params

    exact, how = patchcore(index="exact")
    per_image = np.prod(exact.patches(features[:1]).shape[:3])
    exact, how = patchcore(index="exact", coreset=min(rows / (per_image * len(features)), 1.0))
    exact.fit(features, np.random.default_rng(0))
    graph, _ = patchcore(index="hnsw")
    for what in ("spec", "bank", "picks", "radii", "total", "matrix"):
        setattr(graph, what, getattr(exact, what))
    graph._link()
    found = {"exact": (exact, how), "hnsw": (graph, how)}
    if "padim" in methods:
        section = dict(params.load("padim").padim)
        padim = Padim(Fit.within(section))
        padim.fit(features, np.random.default_rng(0))
        found["padim"] = padim, Score.within(section)
    return found


def whole(file: Path, net: Any, detector: Any, how: Any) -> tuple[float, np.ndarray]:
    """Image score and (S, S) anomaly map of a file."""
    from adshift.features.store import Features

    levels = dict(enumerate(net(_read(file, net)[None]), start=1))
    found = detector.predict(Features.of([file.stem], levels, detector.spec), how)
    return float(found.scores[0]), found.full_maps()[0]


def anomalibs(net: Any, detector: Any, how: Any) -> Callable[[Path], tuple[float, np.ndarray]]:
    """The same by anomalib's model of the same weights, and the same bank or Gaussians."""
    import torch
    from anomalib.models.image.padim.torch_model import PadimModel
    from anomalib.models.image.patchcore.torch_model import PatchcoreModel

    from adshift.features.backbones import cut, full_model

    names = [net.names[level - 1] for level in detector.settings.layers]
    if hasattr(detector, "bank"):
        model = PatchcoreModel(names, net.settings.backbone, pre_trained=False, num_neighbors=how.neighbours)
        model.memory_bank = torch.from_numpy(detector.bank)
    else:
        model = PadimModel(net.settings.backbone, names, pre_trained=False, n_features=len(detector.channels))
        model.idx = torch.from_numpy(detector.channels)
        model.gaussian.mean = torch.from_numpy(np.ascontiguousarray(detector.mean.T))
        model.gaussian.inv_covariance = torch.from_numpy(detector.inverse_covariance)
    # Ours ends at the deepest layer kept; what anomalib's runs behind it, nothing sees.
    weights = cut(full_model(net.settings), net.settings.backbone, net.names).state_dict()
    loaded = model.feature_extractor.feature_extractor.load_state_dict(weights, strict=False)
    assert not loaded.unexpected_keys, loaded.unexpected_keys
    model.eval()

    def call(file: Path) -> tuple[float, np.ndarray]:
        with torch.inference_mode():
            found = model(_tensor(_read(file, net), net))
        return float(found.pred_score), found.anomaly_map[0, 0].numpy()

    return call


def fit_image(file: Path, settings: Any) -> np.ndarray:
    """(S, S, 3) uint8, writable as torch wants it."""
    from adshift.data.geometry import fit
    from adshift.data.images import read_image

    return fit(read_image(file), settings.resize, settings.crop).copy()


def _read(file: Path, net: Any) -> np.ndarray:
    return fit_image(file, net.settings)


def _tensor(image: np.ndarray, net: Any) -> Any:
    """(1, 3, S, S) float32, normalized."""
    import torch

    return torch.from_numpy(image).permute(2, 0, 1)[None].float().div(255).sub(net.mean).div(net.std)


def _bare(network: Any, tensor: Any) -> Any:
    import torch

    with torch.inference_mode():
        return network(tensor)


def _each(files: list[Path], call: Callable[[Path], Any]) -> Callable[[], None]:
    def all_of_them() -> None:
        for file in files:
            call(file)

    return all_of_them
