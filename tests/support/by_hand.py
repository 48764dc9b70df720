"""A study whose every score is written out below, no two sets alike, and what must follow from it, counted by hand.

Nothing here calls the product except to write its files: which scores a scenario needs, its threshold and every figure
are derived anew, in plain Python. A scenario, class, method, domain or part that is mistaken for another changes a
figure.
"""

import hashlib
import itertools
import json
from collections.abc import Iterable, Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.special import betaincinv

from adshift.data import manifest
from adshift.data.manifest import Item
from adshift.detectors.records import Predictions

DATASET, METHODS, CLASSES = "set", ("padim", "patchcore"), ("bolt", "nut")
SIDE = 4  # of the network's input, cut out of masks of 6 x 6 pixels

# method, part, model, domains of model and images, class: scores of normal images | of defective images
TABLE = """
padim val bolt clean-on-clean bolt: 15 11 11 16 | 13 12 11
padim val bolt clean-on-shift bolt: 28 31 28 26 | 34 33 27
padim val bolt shift-on-shift bolt: 21 22 19 18 | 17 24 18
padim val bolt shift-on-clean bolt: 11 13 16 10 | 23 19 14
padim val nut clean-on-clean nut: 14 15 21 21 20 | 21 16 25 20
padim val nut clean-on-shift nut: 5 14 9 14 10 | 11 10 17 8
padim val nut shift-on-shift nut: 24 27 28 20 26 | 25 29 22 27
padim val nut shift-on-clean nut: 26 20 19 23 24 | 26 31 26 27
padim val unified clean-on-clean bolt: 23 25 26 25 | 32 26 34
padim val unified clean-on-clean nut: 25 19 20 26 23 | 29 23 25 29
padim test bolt clean-on-clean bolt: 11 7 5 6 5 | 12 6 4 5
padim test bolt clean-on-shift bolt: 10 10 8 10 11 | 5 13 4 15
padim test bolt shift-on-shift bolt: 12 13 11 10 13 | 11 11 9 17
padim test bolt shift-on-clean bolt: 14 9 14 14 11 | 13 16 17 13
padim test nut clean-on-clean nut: 7 7 2 2 | 9 9 5
padim test nut clean-on-shift nut: 7 6 2 3 | 10 6 9
padim test nut shift-on-shift nut: 14 15 15 17 | 21 20 17
padim test nut shift-on-clean nut: 13 14 20 21 | 23 16 16
padim test unified clean-on-clean bolt: 24 26 23 28 23 | 24 30 22 28
padim test unified clean-on-clean nut: 20 21 21 22 | 19 26 22
padim val bolt-normalise clean-on-clean bolt: 39 38 38 39 | 41 35 34
padim val bolt-align clean-on-clean bolt: 62 61 56 55 | 62 59 57
padim val bolt-harden clean-on-clean bolt: 46 44 52 45 | 45 45 48
padim val bolt-adapt clean-on-shift bolt: 62 59 66 64 | 67 69 63
padim val nut-normalise clean-on-clean nut: 39 40 43 36 37 | 44 47 41 43
padim val nut-align clean-on-clean nut: 39 42 43 41 46 | 43 39 40 48
padim val nut-harden clean-on-clean nut: 53 58 53 56 58 | 54 53 63 53
padim val nut-adapt clean-on-shift nut: 19 16 23 22 22 | 23 18 26 27
padim test bolt-normalise clean-on-clean bolt: 31 25 33 31 30 | 32 35 26 33
padim test bolt-normalise clean-on-shift bolt: 7 8 6 8 12 | 11 14 11 14
padim test bolt-align clean-on-clean bolt: 26 20 24 23 19 | 26 21 23 25
padim test bolt-align clean-on-shift bolt: 24 23 24 26 29 | 25 34 23 24
padim test bolt-harden clean-on-clean bolt: 43 37 40 42 41 | 45 48 44 40
padim test bolt-harden clean-on-shift bolt: 30 29 34 36 30 | 39 36 34 31
padim test bolt-adapt clean-on-clean bolt: 15 12 16 16 16 | 14 10 14 20
padim test bolt-adapt clean-on-shift bolt: 9 10 13 9 12 | 10 17 17 10
padim test nut-normalise clean-on-clean nut: 37 38 33 35 | 36 44 38
padim test nut-normalise clean-on-shift nut: 26 34 30 27 | 31 35 35
padim test nut-align clean-on-clean nut: 28 29 26 30 | 31 34 35
padim test nut-align clean-on-shift nut: 36 35 34 38 | 44 34 40
padim test nut-harden clean-on-clean nut: 29 31 31 34 | 32 34 28
padim test nut-harden clean-on-shift nut: 27 30 27 25 | 31 24 25
padim test nut-adapt clean-on-clean nut: 45 41 40 44 | 38 41 45
padim test nut-adapt clean-on-shift nut: 22 28 26 29 | 27 25 25
patchcore val bolt clean-on-clean bolt: 28 26 26 23 | 25 34 33
patchcore val bolt clean-on-shift bolt: 6 14 8 13 | 16 10 15
patchcore val bolt shift-on-shift bolt: 16 16 14 14 | 15 21 21
patchcore val bolt shift-on-clean bolt: 21 17 26 23 | 25 27 22
patchcore val nut clean-on-clean nut: 10 12 17 11 12 | 11 15 20 17
patchcore val nut clean-on-shift nut: 15 14 19 17 18 | 17 25 16 20
patchcore val nut shift-on-shift nut: 21 26 25 26 20 | 29 20 20 24
patchcore val nut shift-on-clean nut: 26 24 26 26 26 | 27 25 27 24
patchcore val unified clean-on-clean bolt: 11 9 10 7 | 9 9 9
patchcore val unified clean-on-clean nut: 6 8 11 12 9 | 15 12 6 10
patchcore test bolt clean-on-clean bolt: 10 12 9 9 15 | 13 20 15 14
patchcore test bolt clean-on-shift bolt: 15 6 8 9 10 | 16 16 19 14
patchcore test bolt shift-on-shift bolt: 11 17 12 15 19 | 15 13 23 18
patchcore test bolt shift-on-clean bolt: 19 16 18 16 13 | 24 21 14 18
patchcore test nut clean-on-clean nut: 17 10 14 13 | 21 21 13
patchcore test nut clean-on-shift nut: 8 14 17 9 | 17 14 14
patchcore test nut shift-on-shift nut: 18 19 20 18 | 19 19 22
patchcore test nut shift-on-clean nut: 18 16 20 17 | 21 19 24
patchcore test unified clean-on-clean bolt: 3 1 4 10 8 | 5 7 5 9
patchcore test unified clean-on-clean nut: 7 11 6 9 | 6 9 14
patchcore val bolt-normalise clean-on-clean bolt: 19 20 16 19 | 21 16 22
patchcore val bolt-align clean-on-clean bolt: 52 53 54 52 | 52 52 59
patchcore val bolt-harden clean-on-clean bolt: 61 56 62 57 | 62 63 58
patchcore val bolt-adapt clean-on-shift bolt: 51 55 55 50 | 56 56 53
patchcore val nut-normalise clean-on-clean nut: 28 28 28 30 30 | 28 37 33 33
patchcore val nut-align clean-on-clean nut: 49 44 49 44 48 | 45 53 45 47
patchcore val nut-harden clean-on-clean nut: 20 20 19 25 20 | 28 24 25 27
patchcore val nut-adapt clean-on-shift nut: 14 8 9 9 8 | 17 13 12 20
patchcore test bolt-normalise clean-on-clean bolt: 15 10 11 11 15 | 10 11 13 15
patchcore test bolt-normalise clean-on-shift bolt: 18 17 13 16 17 | 18 16 12 19
patchcore test bolt-align clean-on-clean bolt: 15 22 22 20 15 | 22 23 20 25
patchcore test bolt-align clean-on-shift bolt: 35 37 37 31 33 | 33 41 33 32
patchcore test bolt-harden clean-on-clean bolt: 32 33 28 34 30 | 28 31 29 31
patchcore test bolt-harden clean-on-shift bolt: 13 16 13 16 14 | 23 20 25 19
patchcore test bolt-adapt clean-on-clean bolt: 24 29 27 26 23 | 34 34 30 25
patchcore test bolt-adapt clean-on-shift bolt: 20 21 18 24 22 | 19 26 19 26
patchcore test nut-normalise clean-on-clean nut: 18 25 24 18 | 19 23 25
patchcore test nut-normalise clean-on-shift nut: 31 36 31 29 | 34 30 30
patchcore test nut-align clean-on-clean nut: 34 39 32 33 | 36 39 33
patchcore test nut-align clean-on-shift nut: 18 21 22 23 | 20 20 25
patchcore test nut-harden clean-on-clean nut: 15 17 11 14 | 11 14 12
patchcore test nut-harden clean-on-shift nut: 15 18 16 15 | 12 13 20
patchcore test nut-adapt clean-on-clean nut: 30 26 30 29 | 26 31 24
patchcore test nut-adapt clean-on-shift nut: 40 39 36 36 | 38 42 41
"""
# Ratios of the coreset ablation: class, part, ratio: normal | defective
ABLATION = """
bolt val 0.1: 3 8 5 6 | 7 9 4
bolt val 0.5: 12 15 11 17 | 16 13 19
bolt test 0.1: 6 7 2 9 5 | 8 4 10 9
bolt test 0.5: 14 12 18 11 13 | 15 17 12 20
nut val 0.1: 22 25 21 27 23 | 26 24 29 30
nut val 0.5: 33 31 36 32 38 | 34 37 39 35
nut test 0.1: 24 26 21 28 | 25 29 23
nut test 0.5: 35 32 34 36 | 33 38 37
"""
ROWS = {"bolt": {"0.1": 7, "0.5": 31}, "nut": {"0.1": 11, "0.5": 53}}  # of the ablation's banks

# Masks of the defective test images, in the order of their scores: the shift moves them.
MASKS = {
    ("clean", "bolt"): ("##.. ##.. .... ....", "...# .... .... #...", ".... .##. .##. ....", "#... #... #... ...."),
    ("shift", "bolt"): (".... .##. .##. ....", ".... ..#. .... .#..", "##.. ##.. .... ....", "..#. ..#. ..#. ...."),
    ("clean", "nut"): ("#### .... .... ....", ".... .... .... .###", "#..# .... .... #..."),
    ("shift", "nut"): (".... .... #### ....", ".### .... .... ....", ".... .#.# .... .#.."),
}

# scenario: whose model (or lever), model and validation images, model and test images, classes pooled
USES = {
    "clean": ("own", "clean-on-clean", "clean-on-clean", False),
    "shift_no_adaptation": ("own", "clean-on-clean", "clean-on-shift", False),
    "shift_normalised": ("normalise", "clean-on-clean", "clean-on-shift", False),
    "shift_aligned": ("align", "clean-on-clean", "clean-on-shift", False),
    "shift_hardened": ("harden", "clean-on-clean", "clean-on-shift", False),
    "shift_threshold_only": ("own", "clean-on-shift", "clean-on-shift", False),
    "shift_adapted": ("adapt", "clean-on-shift", "clean-on-shift", False),
    "shift_full_adaptation": ("own", "shift-on-shift", "shift-on-shift", False),
    "unified": ("unified", "clean-on-clean", "clean-on-clean", False),
    "unified_absolute": ("unified", "clean-on-clean", "clean-on-clean", True),
    "clean_normalised": ("normalise", "clean-on-clean", "clean-on-clean", False),
    "clean_aligned": ("align", "clean-on-clean", "clean-on-clean", False),
    "clean_hardened": ("harden", "clean-on-clean", "clean-on-clean", False),
    "clean_threshold_only": ("own", "clean-on-shift", "clean-on-clean", False),
    "clean_adapted": ("adapt", "clean-on-shift", "clean-on-clean", False),
    "clean_full_adaptation": ("own", "shift-on-shift", "shift-on-clean", False),
}
LEVERS = ("normalise", "align", "harden", "adapt")
ADAPTED = ("shift_adapted", "clean_adapted")  # normal images alone set the threshold
# pixel metrics: whose model, domains of model and images, domain of the images
MAPS = {
    "clean-on-clean": ("own", "clean-on-clean", "clean"),
    "clean-on-shift": ("own", "clean-on-shift", "shift"),
    "shift-on-shift": ("own", "shift-on-shift", "shift"),
    "shift-on-clean": ("own", "shift-on-clean", "clean"),
    "unified": ("unified", "clean-on-clean", "clean"),
    **{f"{pair}-{lever}": (lever, pair, pair.rpartition("-")[2])
       for lever in LEVERS for pair in ("clean-on-clean", "clean-on-shift")},
}  # fmt: skip

Scores = tuple[list[int], list[int]]  # normal, defective


def _parsed(table: str) -> dict[tuple[str, ...], Scores]:
    found = {}
    for line in table.strip().splitlines():
        key, values = line.split(": ")
        normal, defective = values.split(" | ")
        found[tuple(key.split())] = [int(one) for one in normal.split()], [int(one) for one in defective.split()]
    return found


SCORES = _parsed(TABLE)
OF_ABLATION = _parsed(ABLATION)
ORDER = list(SCORES)


def scores(method: str, part: str, model: str, pair: str, name: str) -> Scores:
    return SCORES[method, part, scored(model, name), pair, name]


def scored(model: str, name: str) -> str:
    """In paths of scores, the model of a class: its own, the unified one, or one of a lever."""
    return {"own": name, "unified": "unified"}.get(model, f"{name}-{model}")


def names(part: str, normal: int, defective: int) -> list[str]:
    """Image names in the order of the scores, which is not the order of the manifest."""
    where = "test/good" if part == "test" else "train/good"
    kinds = ["cut" if place < defective // 2 else "tear" for place in range(defective)]
    first = 0 if part == "test" else 50
    return [f"{where}/{place}" for place in range(normal)] + [
        f"test/{kind}/{first + place}" for place, kind in enumerate(kinds)
    ]


def small_maps(key: tuple[str, ...]) -> list[list[list[int]]]:
    """The 2 x 2 anomaly maps of a set of images: integers, other ones for every set and image."""
    normal, defective = SCORES[key]
    place = ORDER.index(key)
    return [
        [[((7 * y + 3 * x + 1) * (place + image) + 5 * image**2 + place // 3) % 19 + 6 * (image >= len(normal))
          for x in (0, 1)] for y in (0, 1)]
        for image in range(len(normal) + len(defective))
    ]  # fmt: skip


def full_map(small: list[list[int]]) -> list[list[float]]:
    """A 2 x 2 map enlarged to 4 x 4: linear between pixel centres, the edges repeated."""
    shares = (0.0, 0.25, 0.75, 1.0)  # of the second value
    rows = [[row[0] * (1 - share) + row[1] * share for share in shares] for row in small]
    return [[a * (1 - share) + b * share for a, b in zip(*rows, strict=True)] for share in shares]


def write() -> None:
    """The files of the study up to the scores, in the current folder."""
    for key, (normal, defective) in SCORES.items():
        method, part, model, pair, name = key
        path = Path("data/scores") / part / DATASET / method / model / pair / f"{name}.npz"
        labels = names(part, len(normal), len(defective))
        maps = np.array(small_maps(key), np.float32)
        Predictions(tuple(labels), np.array(normal + defective, np.float32), maps, SIDE, 0.0).save(path)
    for (name, part, ratio), (normal, defective) in OF_ABLATION.items():
        path = Path("data/scores/ablation") / DATASET / name / f"{part}-{ratio}.npz"
        labels = names(part, len(normal), len(defective))
        values = np.array(normal + defective, np.float32)
        Predictions(tuple(labels), values, np.zeros((len(values), 1, 1), np.float32), SIDE, 0.0).save(path)
        (path.parent / "rows.json").write_text(json.dumps(ROWS[name]))
    for (domain, name), grids in MASKS.items():
        _write_manifest(domain, name, grids)


def _write_manifest(domain: str, name: str, grids: Sequence[str]) -> None:
    normal = len(scores("padim", "test", "own", "clean-on-clean", name)[0])
    folder, items = Path("data") / domain / DATASET / name, []
    folder.mkdir(parents=True)
    for place, image in enumerate(names("test", normal, len(grids))):
        mask, digest = "", ""
        if place >= normal:
            pixels = np.zeros((6, 6), np.uint8)
            pixels[1:5, 1:5] = 255 * np.array(mask_of(grids[place - normal]))
            mask = str(folder / f"{place}.png")
            Image.fromarray(pixels).save(mask)
            digest = hashlib.sha256(Path(mask).read_bytes()).hexdigest()
        items.append(Item(image, "test", image.split("/")[1], str(folder / "none.png"), mask, "0", digest, 6, 6))
    manifest.write(folder / "manifest.csv", items)


def mask_of(grid: str) -> list[list[bool]]:
    return [[cell == "#" for cell in row] for row in grid.split()]


# What follows from scores.


def counts(normal: Iterable[float], defective: Iterable[float], threshold: float) -> dict[str, int]:
    normal, defective = list(normal), list(defective)
    tp, fp = sum(one >= threshold for one in defective), sum(one >= threshold for one in normal)
    return {"tp": tp, "fp": fp, "tn": len(normal) - fp, "fn": len(defective) - tp}


def ratio(part: float, whole: float) -> float:
    return part / whole if whole else 0.0


def rates(tp: int, fp: int, tn: int, fn: int) -> dict[str, float]:
    return {
        "f1": ratio(2 * tp, 2 * tp + fp + fn),
        "precision": ratio(tp, tp + fp),
        "recall": ratio(tp, tp + fn),
        "specificity": ratio(tn, tn + fp),
    }


def f1(normal: Sequence[float], defective: Sequence[float], threshold: float) -> Fraction:
    found = counts(normal, defective, threshold)
    return Fraction(2 * found["tp"], 2 * found["tp"] + found["fp"] + found["fn"])


def best(normal: Sequence[float], defective: Sequence[float], thresholds: Sequence[float]) -> float:
    """The threshold of the best F1; of several, those with the fewest false alarms, and the middle one of these."""
    of = {one: (f1(normal, defective, one), -counts(normal, defective, one)["fp"]) for one in thresholds}
    ties = sorted(one for one in of if of[one] == max(of.values()))
    return ties[len(ties) // 2]


def exact(normal: Sequence[float], defective: Sequence[float]) -> float:
    """`f1_exact`: the lowest score, and the middle of each gap between two scores."""
    distinct = sorted({*normal, *defective})
    return best(normal, defective, [distinct[0], *((a + b) / 2 for a, b in itertools.pairwise(distinct))])


def on_grid(normal: Sequence[float], defective: Sequence[float], steps: int) -> float:
    """`f1_grid`."""
    low, high = min(*normal, *defective), max(*normal, *defective)
    return best(normal, defective, [low + (high - low) * step / (steps - 1) for step in range(steps)])


def balanced(normal: Sequence[float], defective: Sequence[float], steps: int) -> float:
    """As `on_grid`, the largest sum of specificity and recall."""
    low, high = min(*normal, *defective), max(*normal, *defective)
    grid = [low + (high - low) * Fraction(step, steps - 1) for step in range(steps)]
    passed = [Fraction(sum(score < one for score in normal), len(normal)) for one in grid]
    hits = [Fraction(sum(score >= one for score in defective), len(defective)) for one in grid]
    best = max((share + hit, share) for share, hit in zip(passed, hits, strict=True))
    tied = [one for one, share, hit in zip(grid, passed, hits, strict=True) if (share + hit, share) == best]
    return float(tied[len(tied) // 2])


def above(normal: Sequence[float], target: Fraction) -> float:
    """`target_fpr`: just above the highest normal score that may not be reached."""
    allowed = int(target * len(normal))
    return float(np.nextafter(float(sorted(normal, reverse=True)[allowed]), np.inf))


def validation(method: str, scenario: str, name: str) -> Scores:
    """The scores that set a scenario's threshold for a class."""
    model, pair, _, pooled = USES[scenario]
    sets = [scores(method, "val", model, pair, one) for one in (CLASSES if pooled else [name])]
    return [x for normal, _ in sets for x in normal], [x for _, defective in sets for x in defective]


def tested(method: str, scenario: str, name: str) -> Scores:
    model, _, pair, _ = USES[scenario]
    return scores(method, "test", model, pair, name)


def promised(normal: Sequence[float], target: Fraction) -> tuple[float, dict[str, float]]:
    """`conformal`: just above the J-th largest normal score, and the rate J / (N + 1) with its beta interval."""
    gaps = len(normal) + 1
    above_it = max(1, int(target * gaps))
    low, high = (float(betaincinv(above_it, gaps - above_it, level)) for level in (0.025, 0.975))
    limit = float(np.nextafter(float(sorted(normal, reverse=True)[above_it - 1]), np.inf))
    return limit, {"value": above_it / gaps, "low": low, "high": high}


def record(normal: Sequence[float], defective: Sequence[float], threshold: float, rule: str, on: str) -> dict:
    """As the calibrate stage writes it."""
    found = counts(normal, defective, threshold)
    return {"threshold": threshold, "on": on, "rule": rule, **rates(**found), **found}


def thresholds(method: str, rule: str = "f1_exact", on: str = "val") -> dict[str, dict[str, dict]]:
    """{class: {scenario: record}}; `f1_grid` has 5 steps, `target_fpr` allows a quarter."""
    find = {
        "f1_exact": exact,
        "f1_grid": lambda n, d: on_grid(n, d, 5),
        "target_fpr": lambda n, _: above(n, Fraction(1, 4)),
    }
    result: dict[str, dict[str, dict]] = {name: {} for name in CLASSES}
    for name in CLASSES:
        for scenario in USES:
            normal, defective = validation(method, scenario, name)
            if scenario in ADAPTED:
                limit, rate = promised(normal, Fraction(1, 4))
                found = record(normal, defective, limit, "conformal", on)
                reason = "from normal images alone, as `adshift adapt` does"
                result[name][scenario] = {**found, "reason": reason, "expected_fpr": rate}
            else:
                result[name][scenario] = record(normal, defective, find[rule](normal, defective), rule, on)
    return result


def image_figures(normal: Sequence[float], defective: Sequence[float], threshold: float) -> dict[str, float]:
    """Every image metric, from its definition."""
    found = counts(normal, defective, threshold)
    pairs = [Fraction(2 * (d > n) + (d == n), 2) for d in defective for n in normal]
    precisions = [Fraction(c["tp"], c["tp"] + c["fp"]) for c in (counts(normal, defective, d) for d in defective)]
    bound = max(f1(normal, defective, one) for one in defective)
    return {
        **found,
        **rates(**found),
        "accuracy": (found["tp"] + found["tn"]) / (len(normal) + len(defective)),
        "threshold": threshold,
        "auroc": float(sum(pairs) / len(pairs)),
        "auprc": float(sum(precisions) / len(precisions)),
        "best_f1_upper_bound": float(bound),
        "best_threshold": max(one for one in defective if f1(normal, defective, one) == bound),
    }


def curve(normal: Sequence[float], defective: Sequence[float]) -> list[tuple[int, int]]:
    """(TP, FP) from nothing predicted to all, before and at each score of a defective image."""
    points = [(0, 0)]
    for one in sorted(set(defective), reverse=True):
        points.append((sum(x > one for x in defective), sum(x > one for x in normal)))
        points.append((sum(x >= one for x in defective), sum(x >= one for x in normal)))
    points.append((len(defective), len(normal)))
    return [point for place, point in enumerate(points) if place == 0 or point != points[place - 1]]


def pixel_figures(method: str, key: str, name: str, limit: float) -> dict[str, float]:
    """Every pixel metric of a class, from its definition."""
    model, pair, domain = MAPS[key]
    whole = (method, "test", scored(model, name), pair, name)
    grids = MASKS[domain, name]
    maps = [full_map(small) for small in small_maps(whole)]
    masks = [[[False] * SIDE] * SIDE] * (len(maps) - len(grids)) + [mask_of(grid) for grid in grids]
    pixels = [
        (maps[i][y][x], masks[i][y][x]) for i in range(len(maps)) for y in range(SIDE) for x in range(SIDE)
    ]  # fmt: skip
    normal, defective = [v for v, bad in pixels if not bad], [v for v, bad in pixels if bad]
    found = image_figures(normal, defective, 0.0)
    return {
        "auroc": found["auroc"],
        "auprc": found["auprc"],
        "best_f1_upper_bound": found["best_f1_upper_bound"],
        "pro": overlap_area(maps, masks, normal, limit),
        "pro_limit": limit,
        "aupimo": found_at_no_false_alarm(maps, masks, len(grids)),
    }


def regions(mask: list[list[bool]]) -> list[list[tuple[int, int]]]:
    """Pixels of a mask that touch, at corners too."""
    left, found = {(y, x) for y in range(SIDE) for x in range(SIDE) if mask[y][x]}, []
    while left:
        region, edge = [], [left.pop()]
        while edge:
            y, x = edge.pop()
            region.append((y, x))
            near = {(y + dy, x + dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)} & left
            left -= near
            edge += near
        found.append(region)
    return found


def overlap_area(maps: list, masks: list, normal: Sequence[float], limit: float) -> float:
    """PRO: the curve of mean overlap of regions against false-positive rate, trapezoids up to the limit."""
    parts = [[maps[i][y][x] for y, x in region] for i in range(len(maps)) for region in regions(masks[i])]
    levels = sorted({value for part in parts for value in part} | set(normal), reverse=True)
    points = [(0.0, 0.0)]
    for level in levels:
        overlap = sum(sum(value >= level for value in part) / len(part) for part in parts) / len(parts)
        points.append((sum(value >= level for value in normal) / len(normal), overlap))
    area = 0.0
    for (x0, y0), (x1, y1) in itertools.pairwise(points):
        end = min(x1, limit)
        if end > x0:
            area += (end - x0) * (y0 + y0 + (y1 - y0) * (end - x0) / (x1 - x0)) / 2
    return area / limit


def found_at_no_false_alarm(maps: list, masks: list, defective: int) -> float:
    """AUPIMO where normal images have so few pixels that a single one exceeds its range of false-positive rates."""
    highest = max(value for one in maps[: len(maps) - defective] for row in one for value in row)
    shares = []
    for one, mask in zip(maps[-defective:], masks[-defective:], strict=True):
        inside = [one[y][x] for y in range(SIDE) for x in range(SIDE) if mask[y][x]]
        shares.append(sum(value > highest for value in inside) / len(inside))
    return sum(shares) / len(shares)
