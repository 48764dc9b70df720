"""What a card gives: embedding, search, PaDiM's fit and one image, against plain torch on the same card.

    python benchmarks/device.py --device cuda          # under six minutes; writes benchmarks/results/device.json
    python benchmarks/device.py --device cpu --tiny    # seconds: whether all of it runs

It needs torch, timm, safetensors, NumPy, Pillow, pydantic, numba, tqdm and threadpoolctl, and no installed adshift: the
source beside it is used. FAISS is measured where it is installed, else its entry is null. Weights
are random: they change no time. The file names the card; figures of a processor are marked by `device: cpu`.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median, quantiles
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "src"))

import numpy as np  # noqa: E402

# JPEGs, rounds of embedding them, side of the network's input, rows of the banks, images of PaDiM's fit, timed images.
SIZES = {
    "full": (1024, 3, 256, (100_000, 1_000_000), 209, 200),
    "tiny": (4, 1, 64, (500, 2000), 6, 4),
}
NETWORKS = {"tf_efficientnet_lite0": "blocks", "resnet50": "layer"}
PATCHES, DIMENSIONS, NEIGHBORS = 784, 384, 9
ROUNDS = 5
TARGET, OF_DECODING = 3.0, 0.8  # times the plain loop, or share of what decoding alone allows, whichever is lower

Entry = dict[str, Any]


def seconds_of(call: Callable[[], Any], rounds: int = ROUNDS) -> float:
    """The median of some rounds after one that is not counted, each until the card is done."""
    from adshift.runtime import device

    taken = []
    for _ in range(rounds + 1):
        device.synchronize()
        start = time.perf_counter()
        call()
        device.synchronize()
        taken.append(time.perf_counter() - start)
    return median(taken[1:])


def write_jpegs(folder: Path, count: int) -> list[Path]:
    """Photograph-like JPEGs of 256 pixels: smooth shapes with grain."""
    from PIL import Image

    generator = np.random.default_rng(0)
    files = []
    for index in range(count):
        coarse = Image.fromarray(generator.integers(0, 256, (16, 16, 3), dtype=np.uint8)).resize((256, 256))
        grain = generator.normal(0, 6, (256, 256, 3))
        files.append(folder / f"{index:05}.jpg")
        Image.fromarray((np.asarray(coarse) + grain).clip(0, 255).astype(np.uint8)).save(files[-1], quality=90)
    return files


def settings_of(name: str, precision: str, side: int, folder: Path) -> Any:
    """Settings of a network with random weights, written to `folder` once."""
    import timm
    import torch
    from safetensors.torch import save_file

    from adshift.features.settings import Features

    weights = folder / f"{name}.safetensors"
    if not weights.exists():
        torch.manual_seed(0)
        save_file(timm.create_model(name, pretrained=False).state_dict(), weights)
    return Features(
        backbone=name, weights=str(weights), layers=None, resize=side, fit="squeeze", crop=None, precision=precision,
        mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225), dtype="float16", images=False, batch=32,
        options={}, tiles=None,
    )  # fmt: skip


def items_of(files: list[Path]) -> list[Any]:
    from adshift.data.images import sha256
    from adshift.data.manifest import Item

    return [
        Item(f"train/good/{file.stem}", "train", "good", str(file), "", sha256(file), "", 256, 256) for file in files
    ]


def plain_loop(files: list[Path], settings: Any, target: Path, device: str) -> None:
    """Eager torch with a DataLoader: workers decode, the network runs on the card, maps are stored as float16."""
    import timm
    import torch
    from PIL import Image

    from adshift.features.backbones import layers

    full = timm.create_model(settings.backbone, pretrained=False)
    indices = [[one["module"] for one in full.feature_info].index(name) for name in layers(settings)]
    network = timm.create_model(settings.backbone, pretrained=False, features_only=True, out_indices=indices)
    kind = getattr(torch, settings.precision)
    network = network.eval().to(device)
    mean, std = (torch.tensor(one).view(3, 1, 1) for one in (settings.mean, settings.std))

    class Pictures(torch.utils.data.Dataset):  # type: ignore[type-arg]
        def __len__(self) -> int:
            return len(files)

        def __getitem__(self, index: int) -> Any:
            picture = np.asarray(Image.open(files[index]).convert("RGB").resize((settings.resize, settings.resize)))
            return (torch.from_numpy(picture.copy()).permute(2, 0, 1).float() / 255 - mean) / std

    loader = torch.utils.data.DataLoader(
        Pictures(), batch_size=settings.batch, num_workers=len(os.sched_getaffinity(0)), pin_memory=device != "cpu"
    )
    kept: list[list[np.ndarray]] = []
    half = torch.autocast(device.split(":", maxsplit=1)[0], kind, enabled=kind != torch.float32)
    with torch.no_grad(), half:
        for batch in loader:
            maps = network(batch.to(device, non_blocking=True))
            kept.append([level.half().cpu().numpy() for level in maps])
    for number, level in enumerate(zip(*kept, strict=True)):
        np.save(target / f"plain{number}.npy", np.concatenate(level))


def embedding(folder: Path, count: int, rounds: int, side: int, device: str) -> dict[str, Entry]:
    """Images per second of `embed`, of the plain loop, and of decoding alone."""
    from adshift.data.images import load_image
    from adshift.features.backbones import Backbone
    from adshift.features.extract import embed
    from adshift.runtime.files import remove

    files = write_jpegs(folder, count)
    items = items_of(files)

    def decode() -> None:
        with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
            list(pool.map(load_image, items))

    found: dict[str, Entry] = {"decoding": {"images_per_second": count / seconds_of(decode, rounds)}}
    for name in NETWORKS:
        for precision in ("float32", "float16"):
            settings = settings_of(name, precision, side, folder)
            network = Backbone(settings)

            def ours(network: Any = network) -> None:
                remove(folder / "ours")
                embed(items, network, folder / "ours", what="embed")

            reset_peak(device)
            rates = {"ours": count / seconds_of(ours, rounds), "memory": peak(device)}
            reset_peak(device)
            plain = lambda settings=settings: plain_loop(files, settings, folder, device)  # noqa: E731
            rates |= {"plain": count / seconds_of(plain, rounds), "plain_memory": peak(device)}
            goal = min(TARGET * rates["plain"], OF_DECODING * found["decoding"]["images_per_second"])
            found[f"{name}.{precision}"] = {**rates, "goal": goal, "met": rates["ours"] >= goal}
    return found


def searching(rows: int, device: str) -> Entry:
    """Seconds of the 9 nearest of 784 patches in a bank, against torch's own product and FAISS."""
    import torch

    from adshift.search.products import Products

    generator = np.random.default_rng(0)
    bank = generator.standard_normal((rows, DIMENSIONS), dtype=np.float32)
    queries = generator.standard_normal((PATCHES, DIMENSIONS), dtype=np.float32)
    reset_peak(device)
    index = Products(bank)
    found: Entry = {"rows": rows, "ours": seconds_of(lambda: index.search(queries, NEIGHBORS)), "memory": peak(device)}
    _, indices = index.search(queries, NEIGHBORS)
    there = torch.from_numpy(bank).to(device)

    def brute() -> Any:
        distances = torch.cdist(torch.from_numpy(queries).to(device), there)
        return distances.topk(NEIGHBORS, largest=False).indices.cpu()

    found["torch"] = seconds_of(brute)
    found["same_rows"] = float((brute().numpy() == indices).mean())
    found["faiss"] = None
    try:
        import faiss

        if device == "cpu":
            flat = faiss.IndexFlatL2(DIMENSIONS)
        else:
            flat = faiss.GpuIndexFlatL2(faiss.StandardGpuResources(), DIMENSIONS)
        flat.add(bank)
        found["faiss"] = seconds_of(lambda: flat.search(queries, NEIGHBORS))
    except (AttributeError, ImportError, RuntimeError) as error:
        found["faiss_missing"] = str(error)[:200]
    return found


def features_of(images: int, side: int, folder: Path) -> tuple[Any, Any, list[Path]]:
    """Stored features of some images, the network, and the files."""
    from adshift.features.backbones import Backbone
    from adshift.features.extract import embed
    from adshift.features.store import Features

    (folder / "few").mkdir()
    files = write_jpegs(folder / "few", images)
    network = Backbone(settings_of("tf_efficientnet_lite0", "float32", side, folder))
    embed(items_of(files), network, folder / "stored", what="embed")
    return Features.open(folder / "stored"), network, files


def fitting(features: Any) -> Entry:
    """Seconds of PaDiM's fit."""
    from adshift.detectors import padim

    padim.warm_up()
    detector = padim.Padim(padim.Fit(layers=(1, 2, 3), n_features=100))
    fit = lambda: detector.fit(features, np.random.default_rng(0))  # noqa: E731
    return {"images": len(features), "seconds": seconds_of(fit, 1)}


def predicting(features: Any, files: list[Path], folder: Path, timed: int) -> Entry:
    """Milliseconds of `Model.predict` of one image in memory, and the model's agreement with the processor."""
    from PIL import Image

    import adshift
    from adshift.detectors import patchcore
    from adshift.runtime.files import write_json

    detector = patchcore.PatchCore(patchcore.Fit(
        layers=(2, 3), pool=3, stride=1, projection=None, coreset=0.1, chunk_patches=None, metric="euclidean",
        index="exact",
    ))  # fmt: skip
    detector.fit(features[:50], np.random.default_rng(0))
    target = folder / "model"
    target.mkdir()
    detector.save(target)
    score = patchcore.Score(neighbours=9, reweight="original", image_score="max", top_percent=1.0, smoothing=4.0,
                            search_width=16)  # fmt: skip
    write_json(target / "score.json", dict(score), checksum=True)
    weights = folder / "tf_efficientnet_lite0.safetensors"
    model = adshift.load(target, threshold=1.0, weights=weights)
    picture = np.asarray(Image.open(files[0]).convert("RGB"))
    taken = []
    for _ in range(timed + 3):
        start = time.perf_counter()
        model.predict([picture])
        taken.append(1000 * (time.perf_counter() - start))
    cuts = quantiles(taken[3:], n=100, method="inclusive")
    some = [str(file) for file in files[:16]]
    ours = np.array([one.score for one in model.predict(some)])
    before = os.environ.get("ADSHIFT_DEVICE")
    os.environ["ADSHIFT_DEVICE"] = "cpu"
    try:
        there = np.array([one.score for one in adshift.load(target, threshold=1.0, weights=weights).predict(some)])
    finally:
        os.environ["ADSHIFT_DEVICE"] = before or "auto"
    return {"p50_ms": cuts[49], "p99_ms": cuts[98], "score_error": float(np.abs(ours / there - 1).max())}


def agreement(network: Any, side: int, folder: Path) -> float:
    """The largest error of features against the processor's, of a layer's largest value."""
    from adshift.features.backbones import Backbone

    images = np.random.default_rng(0).integers(0, 256, (8, side, side, 3), dtype=np.uint8)
    found = network(images)
    before = os.environ["ADSHIFT_DEVICE"]
    os.environ["ADSHIFT_DEVICE"] = "cpu"
    try:
        expected = Backbone(settings_of("tf_efficientnet_lite0", "float32", side, folder))(images)
    finally:
        os.environ["ADSHIFT_DEVICE"] = before
    errors = [np.abs(a - b).max() / np.abs(b).max() for a, b in zip(found, expected, strict=True)]
    return float(max(errors))


def reset_peak(device: str) -> None:
    if device != "cpu":
        import torch

        torch.cuda.reset_peak_memory_stats(device)


def peak(device: str) -> int | None:
    """Bytes of the card's memory at the peak; None on the processor."""
    if device == "cpu":
        return None
    import torch

    return int(torch.cuda.max_memory_allocated(device))


def run(size: str) -> dict[str, Any]:
    """All figures, on the device of ADSHIFT_DEVICE."""
    import torch

    from adshift.runtime import device

    jpegs, rounds, side, banks, images, timed = SIZES[size]
    where = device.choose()
    name = "cpu" if where == "cpu" else torch.cuda.get_device_name(where)
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        found: dict[str, Any] = {"embed": embedding(folder, jpegs, rounds, side, where)}
        found["search"] = [searching(rows, where) for rows in banks]
        features, network, files = features_of(images, side, folder)
        found["padim_fit"] = fitting(features)
        found["predict"] = predicting(features, files, folder, timed)
        found["feature_error"] = agreement(network, side, folder)
    versions = {"torch": torch.__version__, "cuda": torch.version.cuda, "numpy": np.__version__}
    facts = {"device": name, "cores": len(os.sched_getaffinity(0)), "size": size, "versions": versions}
    return {**facts, "seconds": round(time.perf_counter() - start, 1), **found}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--tiny", action="store_true", help="the smallest sizes, which measure nothing")
    parser.add_argument("--out", type=Path, default=HERE / "results" / "device.json")
    args = parser.parse_args()
    os.environ["ADSHIFT_DEVICE"] = args.device
    found = run("tiny" if args.tiny else "full")
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print(f"written: {args.out}; {found['device']}, {found['seconds']} s")


if __name__ == "__main__":
    main()
