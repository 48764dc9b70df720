"""Published figures beside ours and anomalib's own: a table and a plot of the CSVs that `published_draws.py` wrote.

    python docs/results/published_show.py docs/results/published/control screw_resnet18 screw_mobilenetv2 \
        reduced_resnet18

Published are anomalib's model pages, which have whole classes of MVTec AD with ResNet-18. Only screw compares: with
10 % of the patches in PatchCore's bank, and more than one epoch of CFA.
"""

import json
import sys
from pathlib import Path

import pandas as pd
import vl_convert

from adshift.runtime import provenance

HERE = Path(__file__).parent / "published"
PAGES = Path("reference/anomalib_model_pages.csv")
SETTINGS = ["class", "backbone", "method", "coreset", "epochs", "learning_rate", "pad_type", "mean"]
THEIRS = "anomalib_"


def main() -> None:
    out, names = Path(sys.argv[1]), sys.argv[2:]
    rows = pd.concat([pd.read_csv(HERE / f"{name}.csv", dtype=dict.fromkeys(SETTINGS, str)) for name in names])
    table = rows.fillna(dict.fromkeys(SETTINGS, "")).groupby(SETTINGS, sort=False, as_index=False).agg(
        draws=("draw", "count"), mean_auroc=("image_auroc", "mean"), deviation=("image_auroc", "std"),
        low=("low", "first"), high=("high", "first"), best_f1=("best_f1_on_test", "mean"),
    )  # fmt: skip
    comparable = table.coreset.isin(["", "0.1"]) & (table.epochs != "1")
    named = zip(table["class"], table.backbone, table.method, comparable, strict=True)
    table["published"] = [published(*one[:3]) if one[3] else None for one in named]
    table["base"] = table.method.str.removeprefix(THEIRS)
    order = ["backbone", "class", "base", "coreset", "epochs", "method"]
    table = table.sort_values(order, ascending=[False, True, True, False, False, False], kind="stable")
    table.drop(columns="base").round(4).to_csv(out.with_suffix(".csv"), index=False, lineterminator="\n")
    out.with_suffix(".md").write_text(page(table, out.stem), encoding="utf-8")
    out.with_suffix(".svg").write_text(plot(table), encoding="utf-8")


def published(name: str, backbone: str, method: str) -> float | None:
    """The image AUROC of anomalib's page, if its class and network are the same."""
    pages = pd.read_csv(PAGES)
    same = (pages["class"] == name) & (pages.backbone == "ResNet-18") & (pages.metric == "image_auroc")
    values = pages[same & (pages.method == method.removeprefix(THEIRS))].value
    return float(values.iloc[0]) if len(values) and (name, backbone) == ("screw", "resnet18") else None


def page(table: pd.DataFrame, stem: str) -> str:
    """One row for each class, network, method and its settings."""
    lines = [
        "# Published figures, ours and anomalib's own",
        "",
        "| class | network | method | settings | draws | image AUROC | 95 % over test images, first draw | "
        "best F1 on test | published AUROC | difference |",
        "| --- | --- | --- | --- | ---: | ---: | --- | ---: | ---: | ---: |",
    ]
    for row in table.itertuples():
        own = row.method.startswith(THEIRS)
        who = f"anomalib's {row.method.removeprefix(THEIRS)}" if own else row.method
        settings = [f"{name} {value}" for name in SETTINGS[3:] if (value := getattr(row, name))]
        spread = f" ± {row.deviation:.3f}" if row.draws > 1 else ""
        known = not pd.isna(row.published)
        lines.append(
            f"| {row[1]} | {row.backbone} | {who} | {', '.join(settings)} | {row.draws} | "
            f"{row.mean_auroc:.3f}{spread} | [{row.low:.3f}, {row.high:.3f}] | {row.best_f1:.3f} | "
            f"{row.published if known else ''} | {f'{row.mean_auroc - row.published:+.3f}' if known else ''} |"
        )
    findings = "../../findings.md#against-published-figures-with-real-weights"
    lines += [
        "",
        f"Mean and standard deviation of the draws. [Findings]({findings}) explain the differences.",
        "",
        f"![Image AUROC of each row]({stem}.svg)",
        "",
        f"Table written with {provenance.sentence(provenance.provenance())}.",
    ]
    return "\n".join(lines) + "\n"


def plot(table: pd.DataFrame) -> str:
    """Points with the draws' deviation, one panel a class and network; the published figure as a line."""
    shown = table.assign(
        panel=table["class"] + ", " + table.backbone,
        who=["anomalib's" if one.startswith(THEIRS) else "ours" for one in table.method],
        label=[
            " ".join(filter(None, (row.base, row.coreset, row.epochs, row.learning_rate, row.pad_type)))
            for row in table.itertuples()
        ],
        least=table.mean_auroc - table.deviation.fillna(0),
        most=table.mean_auroc + table.deviation.fillna(0),
    )
    axis = {"field": "label", "type": "nominal", "title": None}
    scale = {"type": "quantitative", "scale": {"zero": False}, "title": "image AUROC"}
    color = {"field": "who", "type": "nominal", "title": None}
    specification = {
        "$schema": "https://vega.github.io/schema/vega-lite/v5.json",
        "data": {"values": json.loads(shown.to_json(orient="records"))},
        "facet": {"column": {"field": "panel", "type": "nominal", "title": None}},
        "spec": {"layer": [
            {"mark": {"type": "tick", "thickness": 2, "color": "black"},
             "encoding": {"y": axis, "x": {"field": "published", **scale}}},
            {"mark": "rule",
             "encoding": {"y": axis, "x": {"field": "least", **scale}, "x2": {"field": "most"}, "color": color}},
            {"mark": {"type": "point", "filled": True},
             "encoding": {"y": axis, "x": {"field": "mean_auroc", **scale}, "color": color}},
        ]},
        "resolve": {"scale": {"y": "independent"}},
    }  # fmt: skip
    return str(vl_convert.vegalite_to_svg(specification))


if __name__ == "__main__":
    main()
