"""Published figures as targets: each one beside the same figure of a run, or why the two do not compare.

Every CSV of `reference/` that holds figures of quality has a line in `reference/sources.csv`. It names the source and
what the rows do not say: data set, protocol, backbone, resolution. A figure compares if all of these are the run's.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from adshift.data.class_names import slug
from adshift.detectors.registry import BRIDGED
from adshift.errors import AdshiftError
from adshift.evaluation.metrics import registry
from adshift.evaluation.scenarios import BASELINE
from adshift.report.labels import MACRO, ON_TEST, label
from adshift.report.published import read_csv
from adshift.report.results import Results
from adshift.report.table import HIGH, LOW, Estimate, Table

SOURCES = "sources.csv"
UNPRINTED = ("shift_study_splits.csv", "shift_study_cross_class_fpr.csv", "thesis_padim_training_time.csv", SOURCES)
MEANS = ("avg", "average", "mean", "macro")
# Names of the sources, as they are here.
METRICS = {
    "image_best_f1_on_test": "image_f1" + ON_TEST,
    "image_f1_max": "image_f1" + ON_TEST,
    "pixel_f1_max": "pixel_f1_max",
}
BACKBONES = {
    "resnet-18": "resnet18",
    "wide resnet-50": "wide_resnet50_2",
    "wide resnet50": "wide_resnet50_2",
    "efficientnet b5": "efficientnet_b5",
    "efficientnet-b5": "efficientnet_b5",
}
DATASETS = {"mvtec_ad": "mvtec"}
EXPLAINED = 0.02  # a difference above it is marked


@dataclass(frozen=True)
class Target:
    """A published figure.

    Attributes:
        source: who printed it.
        file: of `reference/`.
        dataset, method, name, metric, scenario: names as here; `name` is the class or `MACRO`.
        backbone, protocol, resize, crop: empty where the source does not say.
        value: as printed.
    """

    source: str
    file: str
    dataset: str
    method: str
    scenario: str
    name: str
    metric: str
    backbone: str
    protocol: str
    resize: str
    crop: str
    value: float


@dataclass(frozen=True)
class Setting:
    """What decides whether a figure of a run compares.

    Attributes:
        dataset, backbone, protocol: of params.yaml.
        classes: of the run.
        resize, crop: of the network's input, as text; `crop` is empty if there is none.
    """

    dataset: str
    classes: tuple[str, ...]
    backbone: str
    protocol: str
    resize: str
    crop: str

    @classmethod
    def of_run(cls, dataset: str, results: Results, features: Any) -> "Setting":
        """Of results and the settings `backbone`, `resize` and `crop` of their features."""
        protocol = "official" if results.on == "test" else "study"
        sizes = _text(features.resize), _text(features.crop)
        return cls(dataset, results.classes, features.backbone, protocol, *sizes)

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> "Setting":
        """Of the plain values of params.yaml.

        Raises:
            KeyError, TypeError: one of them is missing.
        """
        features = values["features"]
        sizes = (_text(features[key]) for key in ("resize", "crop"))
        where = values["dataset"]["name"], tuple(map(str, values["classes"]))
        return cls(*where, features["backbone"], values["split"]["protocol"], *sizes)


@dataclass
class Figures:
    """Figures of one run, or of several with other seeds.

    Attributes:
        runs: of each run, {(method, scenario, class, metric): value with its interval}.
    """

    runs: list[dict[tuple[str, str, str, str], Estimate]] = field(default_factory=list)

    def methods(self) -> set[str]:
        """Those that ran."""
        return {key[0] for run in self.runs for key in run}

    def of(self, key: tuple[str, str, str, str]) -> tuple[float | None, float | None, float | None, float | None]:
        """Mean of the runs, the ends of the interval of the first, and the standard deviation over runs."""
        known = [run[key] for run in self.runs if key in run and run[key].value is not None]
        if not known:
            return None, None, None, None
        values = [float(one.value) for one in known if one.value is not None]
        spread = float(np.std(values, ddof=1)) if len(values) > 1 else None
        return float(np.mean(values)), known[0].low, known[0].high, spread


def read(folder: Path) -> list[Target]:
    """All published figures of a folder such as `reference/`.

    Raises:
        AdshiftError: a file of figures without a source, or a figure that is no number.
    """
    sources = {row["file"]: row for row in read_csv(folder / SOURCES)}
    targets: list[Target] = []
    for path in sorted(folder.glob("*.csv")):
        if path.name in UNPRINTED:
            continue
        about = sources.get(path.name)
        if not about or not about.get("source"):
            raise AdshiftError(
                f"{path}: its figures have no source", f"add a line for {path.name} to {folder / SOURCES}"
            )
        targets += _targets(path, read_csv(path), about)
    return targets


def _targets(path: Path, rows: Sequence[Mapping[str, str]], about: Mapping[str, str]) -> Iterable[Target]:
    for row in rows:
        name = row.get("class") or row.get("category") or MEANS[0]
        values = {row["metric"]: row["value"]} if "metric" in row else {
            key: value for key, value in row.items() if key in METRICS or key in registry.BY_NAME
        }  # fmt: skip
        backbone = row.get("backbone") or about["backbone"]
        dataset = row.get("dataset") or about["dataset"]
        for metric, value in values.items():
            if not value:
                continue
            try:
                number = float(value)
            except ValueError:
                remedy = "correct it; see reference/README.md"
                raise AdshiftError(f"{path}: {metric} of {name} is {value!r}, no number", remedy) from None
            yield Target(
                about["source"],
                path.name,
                DATASETS.get(dataset, dataset),
                row.get("method") or "padim",
                row.get("scenario") or about["scenario"] or BASELINE.name,
                MACRO if name in MEANS else name,
                METRICS.get(metric, metric),
                BACKBONES.get(backbone.lower(), backbone),
                about["protocol"],
                about["resize"],
                about["crop"],
                number,
            )


def differs(target: Target, setting: Setting, methods: set[str], classes: Mapping[str, frozenset[str]]) -> str:
    """Why a figure does not compare with the run's; empty if it does.

    Args:
        target: published.
        setting: of the run.
        methods: that ran.
        classes: {file: slugs of the classes of its figures}, which its means are over.
    """
    own = {slug(name) for name in setting.classes}
    mean, name = target.name == MACRO, slug(target.name)
    size = f"{target.resize} cropped to {target.crop}" if target.crop else target.resize
    reasons = {
        "other data": target.dataset != setting.dataset,
        "method not in this run": target.method not in methods,
        "a mean over other classes": mean and classes[target.file] != own,
        "class not in this run": not mean and name not in own,
        f"other protocol ({target.protocol})": target.protocol not in ("", setting.protocol),
        f"other backbone ({target.backbone})": target.backbone not in ("", setting.backbone),
        f"other resolution ({size})": target.resize and (target.resize, target.crop) != (setting.resize, setting.crop),
    }
    return next((reason for reason, applies in reasons.items() if applies), "")


def beside(targets: Sequence[Target], setting: Setting, figures: Figures) -> tuple[Table, dict[str, int]]:
    """The comparable figures beside the run's, and for the rest {reason: number of figures}.

    `anomalibs_own` is the figure of anomalib's own model on the same images, if the run has it as `anomalib_METHOD`.
    """
    by_file: dict[str, set[str]] = {}
    for target in targets:
        if target.name != MACRO and target.dataset == setting.dataset:
            by_file.setdefault(target.file, set()).add(slug(target.name))
    classes = {target.file: frozenset(by_file.get(target.file, ())) for target in targets}
    slugs = {slug(name): name for name in setting.classes}
    rows, rest = [], Counter[str]()
    for target in targets:
        if reason := differs(target, setting, figures.methods(), classes):
            rest[reason] += 1
            continue
        name = target.name if target.name == MACRO else slugs[slug(target.name)]
        value, low, high, spread = figures.of((target.method, target.scenario, name, target.metric))
        if value is None:
            rest["not measured in this run"] += 1
            continue
        gap = value - target.value
        control = figures.of((BRIDGED + target.method, target.scenario, name, target.metric))[0]
        unsaid = "resolution" if not target.resize else ""
        row = (
            target.method,
            target.scenario,
            name,
            target.metric,
            target.value,
            value,
            low,
            high,
            spread,
            control,
            gap,
        )
        rows.append((*row, abs(gap) > EXPLAINED, unsaid if target.backbone else f"{unsaid} backbone".strip(),
                     target.source))  # fmt: skip
    columns = ["method", "scenario", "class", "metric", "published", "ours", "ours" + LOW, "ours" + HIGH,
               "ours_spread", "anomalibs_own", "difference", "above_0.02", "not_printed", "source"]  # fmt: skip
    frame = pd.DataFrame(rows, columns=columns)
    frame["above_0.02"] = ["yes" if one else "" for one in frame["above_0.02"]]
    unused = {"ours_spread": len(figures.runs) < 2, "anomalibs_own": frame["anomalibs_own"].isna().all()}
    frame = frame.drop(columns=[column for column, empty in unused.items() if empty])
    return Table(
        "published", "Published figures beside this run's", frame, note(setting, rest, len(figures.runs))
    ), rest


def tables(results: Results, setting: Setting, folder: Path) -> list[Table]:
    """The table of published figures beside those of a run; none if nothing is published of its data set."""
    targets = read(folder)
    if not any(target.dataset == setting.dataset for target in targets):
        return []
    keys = results.figures[["method", "scenario", "class", "metric"]].itertuples(index=False, name=None)
    ours = {(*key[:3], results.named(key[3])): results.estimate(*key) for key in keys}
    return [beside(targets, setting, Figures([ours]))[0]]


def note(setting: Setting, rest: Mapping[str, int], runs: int) -> str:
    """The note under the table: what the run was, and why other figures are left out."""
    crop = f" cropped to {setting.crop}" if setting.crop else ""
    ours = f"This run: {setting.backbone}, {setting.resize} pixels{crop}, protocol {setting.protocol}."
    several = f" Means of {runs} runs, intervals of the first." if runs > 1 else ""
    left = "; ".join(f"{number:,} {reason}" for reason, number in sorted(rest.items(), key=lambda one: -one[1]))
    out = f" Left out: {left}." if left else ""
    return f"{ours}{several} In brackets 95 % intervals over test images; the sources print none.{out}"


def figures_of(rows: Iterable[Mapping[str, str]]) -> dict[tuple[str, str, str, str], Estimate]:
    """The figures of one run, from the rows of its results.csv.

    Raises:
        KeyError, ValueError: it is no such table.
    """
    return {
        (row["method"], row["scenario"], row["class"], row["metric"]): Estimate(
            *(float(row[end]) if row.get(end) else None for end in ("value", "value" + LOW, "value" + HIGH))
        )
        for row in rows
    }


def lines(table: Table) -> Iterable[str]:
    """The table for a terminal."""
    frame = table.frame
    head = f"{'method':<16}{'class':<14}{'metric':<24}{'published':>10}{'ours':>8}{'interval':>17}{'difference':>12}"
    yield f"{head}  source"
    for _, row in frame.iterrows():
        ends = "" if pd.isna(row["ours" + LOW]) else f"[{row['ours' + LOW]:.3f}, {row['ours' + HIGH]:.3f}]"
        mark = "*" if row["above_0.02"] else " "
        spread = f" +- {row['ours_spread']:.3f}" if not pd.isna(row.get("ours_spread")) else ""
        control = f" (anomalib's own {row['anomalibs_own']:.3f})" if not pd.isna(row.get("anomalibs_own")) else ""
        yield (
            f"{row['method']:<16}{row['class']:<14}{row['metric']:<24}{row['published']:>10.3f}{row['ours']:>8.3f}"
            f"{ends:>17}{row['difference']:>+11.3f}{mark}  {label(row['source'])[:60]}{spread}{control}"
        )
    yield ""
    yield table.note
    if (frame["above_0.02"] != "").any():
        yield f"* differs by more than {EXPLAINED}"


def _text(size: Any) -> str:
    if size is None:
        return ""
    return "x".join(map(str, size)) if isinstance(size, list | tuple) else str(size)
