import csv
import json
import re
from pathlib import Path

import pytest
from ruamel.yaml import YAML

import fake_run
from adshift.evaluation.scenarios import SCENARIOS
from adshift.project import offline
from adshift.report import page, plots
from adshift.report.results import collect
from fake_run import texts

ROOT = Path(__file__).parents[3]
TEMPLATES = ROOT / ".dvc" / "plots"


@pytest.fixture
def charts(run):
    return plots.rows("sample", collect("sample", fake_run.CLASSES, fake_run.METHODS, fake_run.RATIOS))


def test_every_chart_has_rows_with_its_columns_and_a_template(charts, run):
    assert set(charts) == set(plots.CHARTS)
    plots.write(run / "plots", charts)
    for chart in plots.CHARTS.values():
        with (run / "plots" / f"{chart.name}.csv").open(newline="") as file:
            rows = list(csv.DictReader(file))
        assert rows and {chart.x, chart.y} <= set(rows[0])


def test_every_field_of_a_template_is_a_column_or_made_there(charts):
    for chart in plots.CHARTS.values():
        text = (TEMPLATES / f"{chart.template}.json").read_text()
        assert "<DVC_METRIC_DATA>" in text and "rev" in text  # `dvc plots diff` tells revisions apart by it
        made = set(re.findall(r'"as": "(\w+)"', text)) | {"rev"}
        used = set(re.findall(r'"field": "(\w+)"', text))
        assert used <= made | set(charts[chart.name][0]), chart.name


@pytest.mark.parametrize("name", ["roc", "scores", "confusion", "scenarios"])
def test_templates_show_every_scenario_in_the_order_of_the_records(charts, name):
    """One that no template has ever heard of, too."""
    added = [{**row, "scenario": "another_one"} for row in charts[name] if row["scenario"] == SCENARIOS[-1].name]
    rows = [row for method in fake_run.METHODS for row in [*charts[name], *added] if row["method"] == method]
    words = [key.replace("_", " ") for key in (*(scenario.name for scenario in SCENARIOS), "another_one")]
    found = {text: (x, y) for text, x, y in texts(plots.svg(plots.fill(plots.CHARTS[name], rows))) if text in words}
    along = 0 if name == "confusion" else 1
    assert sorted(found, key=lambda word: found[word][along]) == words


def test_each_confusion_matrix_stands_under_its_own_header(charts):
    """Vega-Lite misplaces cells if facets are sorted by a list, as DVC's own templates are."""
    rows = [{**row, "count": 100 + number, "share": 0.5} for number, row in enumerate(charts["confusion"])]
    found = texts(plots.svg(plots.fill(plots.CHARTS["confusion"], rows)))
    columns = {text.replace(" ", "_"): x for text, x, _ in found}
    heights = {text: y for text, _, y in found if "·" in text}
    assert len(heights) == 4
    for row in rows:
        x, y = columns[row["scenario"]], heights[f"{row['class']} · {row['method']}"]
        [(cell_x, cell_y)] = [(cx, cy) for text, cx, cy in found if text == str(row["count"])]
        assert abs(cell_x - x) < 60 and abs(cell_y - y) < 45, row
        assert (cell_x > x) == (row["predicted"] == "defective") and (cell_y > y) == (row["actual"] == "defective")


def test_confusion_counts_and_shares(charts):
    for key in {(row["method"], row["class"], row["scenario"]) for row in charts["confusion"]}:
        cells = [row for row in charts["confusion"] if (row["method"], row["class"], row["scenario"]) == key]
        assert sum(row["count"] for row in cells) == 17
        normal = [row["share"] for row in cells if row["actual"] == "normal"]
        assert sum(normal) == pytest.approx(1, abs=1e-3)


def test_points_of_a_curve_keep_their_order(charts):
    curve = [r for r in charts["roc"] if (r["method"], r["class"], r["scenario"]) == ("padim", "carpet", "unified")]
    assert [row["point"] for row in curve] == list(range(18))
    assert [float(row["tpr"]) for row in curve] == sorted(float(row["tpr"]) for row in curve)


def test_drawing_is_deterministic_and_themeable(charts):
    spec = plots.fill(plots.CHARTS["roc"], charts["roc"])
    first, second = (re.sub(r"clip\d+", "clip", plots.svg(spec)) for _ in range(2))
    assert first == second
    assert "http" not in first.replace("http://www.w3.org", "")
    assert 'fill="white"' not in first


def test_offline_page_carries_vega_and_loads_nothing():
    page = offline.page()
    assert "{plot_divs}" in page and "{scripts}" not in page
    assert "window.vegaEmbed=" in page
    markup = re.sub(r"<script>.*</script>", "", page, flags=re.S)
    assert len(markup) < 2000 and "http" not in markup and "src=" not in markup


def test_dvc_fills_the_templates(charts):
    from dvc_render.vega import VegaRenderer

    for chart in plots.CHARTS.values():
        rows = [{"rev": rev, **row} for row in charts[chart.name][:50] for rev in ("HEAD", "workspace")]
        properties = {"template": chart.template, "template_dir": str(TEMPLATES), "x": chart.x, "y": chart.y}
        filled = json.dumps(VegaRenderer(rows, chart.name, **properties).get_filled_template())
        assert "DVC_METRIC" not in filled, chart.name


def test_dvc_yaml_declares_the_same_charts():
    declared = YAML(typ="safe").load(ROOT / "dvc.yaml")["plots"]
    found = {
        name: (entry["template"], entry["title"], entry["x"], entry["y"])
        for plot in declared
        if isinstance(plot, dict)
        for name, entry in plot.items()
    }
    assert found == {
        chart.name: (chart.template, chart.title, chart.x, {f"plots/curves/{chart.name}.csv": chart.y})
        for chart in plots.CHARTS.values()
    }


def test_the_report_depends_on_each_template_that_the_page_draws():
    """DVC sees nothing below .dvc when a folder there is the dependency, but it does see a file."""
    deps = YAML(typ="safe").load(ROOT / "dvc.yaml")["stages"]["report"]["deps"]
    drawn = {f".dvc/plots/{plots.CHARTS[name].template}.json" for name in page.CHARTS}
    assert drawn == {dep for dep in deps if dep.startswith(".dvc")}
    templates = {f"{chart.template}.json" for chart in plots.CHARTS.values()}
    assert templates == {path.name for path in TEMPLATES.glob("*.json")}


def test_the_page_draws_a_panel_for_each_value_with_the_pages_words(charts):
    panels = plots.panels(plots.CHARTS["scenarios"], charts["scenarios"])
    headings = [heading for heading, _ in panels]
    assert headings == ["image AUROC", "image F1", "recall", "specificity", "pixel AUROC"]  # no value of PRO is defined
    found = {text for text, *_ in texts(plots.svg(panels[0][1]))}
    assert {"PatchCore", "PaDiM", *(scenario.label for scenario in SCENARIOS)} <= found
    assert not {key for key in found if "_" in key}
    assert "rotate" not in re.sub(r"<g [^>]*role-axis-title.*?</g>", "", plots.svg(panels[0][1]), flags=re.S)


def test_one_class_has_no_panel_of_the_mean_and_classes_have_their_names(run):
    Path("data/clean/sample/classes.json").write_text('{"carpet": "my_carpet v1.2"}')
    found = plots.rows("sample", collect("sample", ("carpet",), fake_run.METHODS, fake_run.RATIOS))
    assert [heading for heading, _ in plots.panels(plots.CHARTS["coreset"], found["coreset"])] == ["my_carpet v1.2"]
    assert {row["class"] for row in found["roc"]} == {"my_carpet v1.2"}


@pytest.mark.parametrize("values", [(0.9, 0.9), (0.9, 0.9004), (0.1, 1.0), (0.991, 0.9935)])
def test_ticks_do_not_repeat(values):
    rows = [
        {"method": "padim", "class": name, "scenario": scenario, "metric": "image_f1", "value": value}
        for name in ("a", "b") for scenario, value in zip(("clean", "unified"), values, strict=True)
    ]  # fmt: skip
    [(_, spec)] = plots.panels(plots.CHARTS["unified_gap"], rows)
    ticks = [text for text, *_ in texts(plots.svg(spec)) if re.fullmatch(r"[\d.]+", text)]
    assert len(ticks) == len({*ticks}) >= 1
    assert all(min(values) - 0.2 <= float(tick) <= max(values) + 0.2 for tick in ticks)
    if values[0] == values[1]:
        assert float(ticks[0]) == values[0]
