import csv
import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

import fake_run
from adshift.errors import AdshiftError
from adshift.evaluation.metrics import registry
from adshift.evaluation.registry import LEVERS
from adshift.evaluation.scenarios import SCENARIOS
from adshift.project.paths import split_path
from adshift.report import plots, published, tables
from adshift.report.labels import MACRO
from adshift.report.results import UPPER_BOUND, collect, mean
from adshift.report.table import Table, write
from adshift.report.timings import timings
from adshift.runtime import checksums

GRAPH = SimpleNamespace(domains=("clean", "shift"), unified=("unified",), ablation=("shift",))
STUDY = ("hazelnut", "carpet", "zipper")


def collected(dataset=fake_run.DATASET, classes=fake_run.CLASSES, methods=fake_run.METHODS):
    return collect(dataset, classes, methods, fake_run.RATIOS)


def table_of(columns, *rows, note=""):
    return Table("t", "Title", pd.DataFrame(rows, columns=columns, dtype=object), note)


def rows_of(table):
    """The rows of a table; None for what is undefined."""
    return list(table.frame.astype(object).where(table.frame.notna(), None).itertuples(index=False, name=None))


def test_macro_is_the_mean_of_the_classes(run):
    path = Path("data/evaluation/sample/image/padim.json")
    image = json.loads(path.read_text())
    for name, value in zip(fake_run.CLASSES, (0.5, 0.9), strict=True):
        image["classes"][name]["clean"]["auroc"] = value
    path.write_text(json.dumps(image))
    assert tables.summary(collected())["padim"]["clean"]["image_auroc"] == 0.7


def test_undefined_metrics_stay_undefined_and_do_not_drag_the_mean():
    assert mean(pd.Series([np.nan, 0.4, 0.8])) == pytest.approx(0.6)
    assert np.isnan(mean(pd.Series([np.nan, np.nan])))
    assert np.isnan(mean(pd.Series([], dtype=float)))


def test_summary_has_the_same_keys_for_each_method_and_no_list(run):
    summary = tables.summary(collected())
    assert list(summary) == list(fake_run.METHODS)
    for scenarios in summary.values():
        assert list(scenarios) == [scenario.name for scenario in SCENARIOS]
        assert all(tuple(metrics) == tables.SUMMARY for metrics in scenarios.values())
    assert summary["padim"]["clean"]["pro"] is None  # the fake run has none


def test_pixel_metrics_come_from_the_maps_of_the_scenario(run):
    path = Path("data/evaluation/sample/pixel/patchcore.json")
    pixel = json.loads(path.read_text())
    values = {
        "clean-on-clean": 0.1,
        "clean-on-shift": 0.2,
        "shift-on-shift": 0.3,
        "unified": 0.4,
        "shift-on-clean": 0.5,
        **{f"clean-on-clean-{lever}": 0.6 + number / 50 for number, lever in enumerate(LEVERS)},
        **{f"clean-on-shift-{lever}": 0.8 + number / 50 for number, lever in enumerate(LEVERS)},
    }
    for name in fake_run.CLASSES:
        for pair, value in values.items():
            pixel[name][pair]["auroc"] = value
    path.write_text(json.dumps(pixel))
    summary = tables.summary(collected())["patchcore"]
    found = {scenario.name: summary[scenario.name]["pixel_auroc"] for scenario in SCENARIOS}
    assert found == pytest.approx({
        "clean": 0.1, "shift_no_adaptation": 0.2, "shift_normalised": 0.8, "shift_aligned": 0.82,
        "shift_hardened": 0.84, "shift_threshold_only": 0.2, "shift_adapted": 0.86, "shift_full_adaptation": 0.3,
        "unified": 0.4, "unified_absolute": 0.4, "clean_normalised": 0.6, "clean_aligned": 0.62,
        "clean_hardened": 0.64, "clean_threshold_only": 0.1, "clean_adapted": 0.66, "clean_full_adaptation": 0.5,
    })  # fmt: skip


def test_a_class_on_disk_that_the_parameters_do_not_name_is_ignored(run):
    alone = collected(classes=("carpet",))
    text = "".join(table.csv() for table in tables.all_tables("sample", alone, "resnet50", Path("reference")))
    assert "hazelnut" not in text + json.dumps(tables.summary(alone))
    assert alone.value("padim", "clean", MACRO, "accuracy") == collected().value("padim", "clean", "carpet", "accuracy")


@pytest.mark.parametrize("missing", ["classes", "methods"])
def test_an_evaluation_that_is_missing_is_named(run, missing):
    with pytest.raises(AdshiftError, match=r"zipper|cfa"):
        collected(**{missing: ("zipper",) if missing == "classes" else ("cfa",)})


def test_split_table_counts_normal_and_defective_images(run):
    table = tables.splits("sample", ["carpet"], "resnet50", Path("reference"))
    row = table.frame.iloc[0].to_dict()
    assert row == {"class": "carpet", "domain": "both", "train_normal": 6, "train_anomalous": 0, "val_normal": 2,
                   "val_anomalous": 1, "test_normal": 8, "test_anomalous": 9}  # fmt: skip


def test_split_table_leaves_images_beyond_max_train_out(run):
    path = split_path("sample", "carpet")
    path.write_text(path.read_text().replace(",train", ",unused", 1))
    table = tables.splits("sample", ["carpet"], "resnet50", Path("reference"))
    assert table.frame.iloc[0, 2:5].tolist() == [5, 0, 2]


def test_published_values_and_differences_stand_beside_ours_when_the_data_and_backbone_are_the_studys(run):
    fake_run.make(dataset="mvtec", classes=STUDY)
    results = collected("mvtec", STUDY)
    clean = next(t for t in tables.all_tables("mvtec", results, "resnet50", Path("reference")) if "clean" in t.name)
    rows = {row["class"]: row for row in csv.DictReader(clean.csv().splitlines()) if row["method"] == "padim"}
    assert rows["zipper"]["image_auroc_published"] == "0.862"
    ours = float(rows["zipper"]["image_auroc"])
    assert float(rows["zipper"]["image_auroc_difference"]) == pytest.approx(ours - 0.862)
    assert rows["(mean)"]["pro"] == "" and rows["(mean)"]["pro_published"] == "0.709"  # undefined here, printed there
    assert rows["(mean)"]["pro_difference"] == ""
    split = tables.splits("mvtec", STUDY, "resnet50", Path("reference"))
    row = split.frame.iloc[0]
    assert (row["test_normal"], row["test_normal_published"], row["test_normal_difference"]) == (8, 40, -32)


@pytest.mark.parametrize(
    ("dataset", "classes", "backbone"),
    [("sample", STUDY, "resnet50"), ("mvtec", STUDY[:2], "resnet50"), ("mvtec", STUDY, "resnet18")],
)
def test_no_published_value_beside_another_study(dataset, classes, backbone):
    assert published.read_published(dataset, classes, backbone, Path("reference")) == {}


def test_each_published_value_finds_its_place(run):
    """A renamed metric or scenario would silently lose its published value."""
    fake_run.make(dataset="mvtec", classes=STUDY)
    results = collected("mvtec", STUDY)
    for scenario, method, name, metric in published.read_published("mvtec", STUDY, "resnet50", Path("reference")):
        results.value(method, scenario, name, metric)
    printed = tables.all_tables("mvtec", results, "resnet50", Path("reference"))
    with_values = [table.name for table in printed if any(c.endswith("_published") for c in table.columns)]
    numbered = ("splits", "clean", "specificity", "shift_ranking", "shift_decisions", "unified")
    assert with_values == [
        *(f"table{n}_{what}" for n, what in enumerate(numbered, start=1)),
        "cost_of_levers",
        "cost_of_adaptation",
    ]


def test_unified_gap_is_per_class_minus_unified(run):
    for row in rows_of(tables.unified_gap(collected())):
        own, pooled, gap = row[3:6]
        assert gap is None if own is None else gap == pytest.approx(own - pooled)


def test_tables_show_intervals_and_csv_has_their_ends_in_columns(run):
    results = collected()
    found = results.estimate("padim", "clean", "carpet", "recall")
    assert found.low <= found.value <= found.high and found.low < found.high
    clean = next(t for t in tables.all_tables("sample", results, "b", Path("reference")) if t.name == "table2_clean")
    row = next(row for row in csv.DictReader(clean.csv().splitlines()) if row["class"] == "carpet")
    assert {"image_auroc", "image_auroc_low", "image_auroc_high"} <= set(row) and "[" not in row["image_auroc"]
    assert (row["pixel_auroc"], row["pixel_auroc_low"]) == ("0.95", "")
    shown = results.estimate("patchcore", "clean", "carpet", "image_f1")
    assert f"{shown.value:.3f} [{shown.low:.3f}, {shown.high:.3f}]" in clean.markdown()
    assert "| 0.950 |" in clean.markdown()  # pixel metrics have none


def test_a_mean_of_classes_is_surer_than_its_classes(run):
    results = collected()
    widths = {
        name: sum(high - low for _, low, high in (
            results.estimate("padim", scenario.name, name, "recall") for scenario in SCENARIOS))
        for name in (*fake_run.CLASSES, MACRO)
    }  # fmt: skip
    assert widths[MACRO] < min(widths[name] for name in fake_run.CLASSES)


def test_differences_within_chance_are_ties_and_others_name_the_better_method(run):
    short, every = tables.differences(collected())
    assert len(short.frame) == len(SCENARIOS) * 3 and len(every.frame) == len(SCENARIOS) * 3 * 7
    for *_, low, high, better in (*rows_of(short), *rows_of(every)):
        assert better == ("patchcore" if low > 0 else "padim" if high < 0 else "tie")
    one = every.frame.iloc[0]
    assert (one["method"], one["than"]) == ("patchcore", "padim")
    assert all(len(line) == 9 for line in csv.reader(short.csv().splitlines()))


def test_methods_are_compared_on_the_same_resamples(run):
    """Equal methods differ in no resample: a zero-width tie, though each method's own interval is wide."""
    for kind in ("image/{}.json", "pixel/{}.json", "bootstrap/{}.npz"):
        path = f"data/evaluation/sample/{kind}"
        Path(path.format("padim")).write_bytes(Path(path.format("patchcore")).read_bytes())
    short, _ = tables.differences(collected())
    assert {tuple(row[5:]) for row in rows_of(short)} == {(0.0, 0.0, 0.0, "tie")}


def test_a_method_that_is_clearly_better_is_no_tie(run):
    results = collected()
    results.replicates["padim", "clean", MACRO][:] -= 0.5
    short, _ = tables.differences(results)
    assert short.frame.better[0] == "patchcore" and "| PatchCore |" in short.markdown()


def test_of_a_metric_where_less_is_more_the_lower_value_is_better(run, monkeypatch):
    metric = replace(registry.BY_NAME["image_auroc"], higher_is_better=False)
    monkeypatch.setitem(registry.BY_NAME, "image_auroc", metric)
    results = collected()
    results.replicates["padim", "clean", MACRO][:] -= 0.5
    short, _ = tables.differences(results)
    assert [*short.frame.better[:3]] == ["padim", "patchcore", "patchcore"]  # image_auroc, image_f1, specificity


def test_means_say_which_classes_and_images_they_leave_out(run):
    """A figure that classes lack; defective images without masks, which concern pixel metrics alone."""
    results, baseline = collected(), [SCENARIOS[0]]
    assert results.partial_means(baseline, ["image_auroc", "pixel_auroc"]) == ""
    first, second, *_ = results.classes
    unknown = {(results.methods[0], "clean", first): 2, (results.methods[0], "clean", second): 3}
    unknown |= {(results.methods[1], "clean", first): 50, (results.methods[0], "unified", first): 70}
    masks = "Pixel metrics leave out 5 defective test images whose masks are unknown."
    results = replace(results, unknown_masks=unknown)
    assert results.partial_means(baseline, ["image_auroc"]) == ""
    assert results.partial_means(baseline, ["image_auroc", "pixel_auroc"]) == masks
    assert results.partial_means([], ["pixel_auroc"]) == ""
    figures = results.figures.copy()
    at = (figures["class"] == first) & (figures["metric"] == "pixel_auroc") & (figures["scenario"] == "clean")
    figures.loc[at & (figures["method"] == results.methods[1]), "value"] = np.nan
    count = len(results.classes)
    lacking = f"Means are of the classes that have the figure: pixel AUROC of {count - 1} of {count} classes."
    found = replace(results, figures=figures).partial_means(baseline, ["image_auroc", "pixel_auroc"])
    assert found == f"{lacking} {masks}"
    one = replace(results, figures=figures, classes=(first,))  # it has nothing to leave out
    one = replace(one, methods=results.methods[1:], unknown_masks={})
    assert one.partial_means(baseline, ["image_auroc", "pixel_auroc"]) == ""
    of_first = replace(results, unknown_masks={(results.methods[0], "clean", first): 2})
    assert of_first.partial_means(baseline, ["pixel_auroc"]) == masks.replace("5", "2")


def test_a_count_of_none_is_none(run):
    results = collected()
    figures, name = results.figures.copy(), results.classes[0]
    at = (figures["class"] == name) & (figures["metric"] == "fn") & (figures["scenario"] == "clean")
    figures.loc[at & (figures["method"] == "padim"), "value"] = 0.0
    before, after = (one.counts("padim", "clean", name) for one in (results, replace(results, figures=figures)))
    assert before.fn > 0 and after == before._replace(fn=0)


def test_a_difference_of_undefined_replicates_has_no_interval(run):
    results, name = collected(), fake_run.CLASSES[0]
    pair = ("padim", "clean"), ("patchcore", "clean")
    whole = results.difference(*pair, name, "image_auroc")
    assert whole.low is not None and whole.high is not None
    results.replicates["padim", "clean", name][:] = np.nan
    assert results.difference(*pair, name, "image_auroc") == whole._replace(low=None, high=None)


def test_without_ratios_the_ablation_is_an_empty_table(run):
    whole, none = (collect(fake_run.DATASET, fake_run.CLASSES, fake_run.METHODS, ratios).ablation
                   for ratios in (fake_run.RATIOS, ()))  # fmt: skip
    assert len(none) == 0 and list(none.columns) == list(whole.columns)


def test_markdown_is_escaped_and_aligned():
    table = table_of(("class", "pro"), ("a|b", 0.12345), ("c", None), note="Note.")
    assert table.markdown() == (
        "# Title\n\n| class | PRO |\n| --- | ---: |\n| a\\|b | 0.123 |\n| c | \N{EN DASH} |\n\nNote.\n"
    )
    assert table.csv() == "class,pro\na|b,0.12345\nc,\n"


def test_timings_follow_the_parameters(run):
    table = timings("sample", ["carpet"], ["padim"], GRAPH)
    assert [row[:4] for row in rows_of(table)] == [
        ("fit", "padim", "carpet", "clean"),
        ("fit", "padim", "carpet", "shift"),
        ("fit", "padim", "unified", "clean"),
        *[("ablate", "patchcore", "carpet", "shift")] * 3,
    ]
    assert [(row[-3], row[-1]) for row in rows_of(table)[-3:]] == [(0.01, 0.5), (0.05, 1.5), (0.1, 2.5)]


def choose_on_test(method):
    path = Path(f"data/evaluation/sample/image/{method}.json")
    path.write_text(json.dumps(json.loads(path.read_text()) | {"on": "test"}))


def test_thresholds_chosen_on_test_are_named_wherever_a_figure_needs_one(run):
    study = collected()
    for method in fake_run.METHODS:
        choose_on_test(method)
    results = collected()
    assert list(tables.summary(results)["padim"]["clean"]) == [
        "image_auroc", "image_f1_on_test", "specificity_on_test", "pixel_auroc", "pro"]  # fmt: skip
    assert (
        tables.summary(results)["padim"]["clean"]["image_f1_on_test"]
        == (tables.summary(study)["padim"]["clean"]["image_f1"])
    )
    printed = {table.name: table for table in tables.all_tables("sample", results, "resnet50", Path("reference"))}
    assert "image F1 (upper bound, threshold chosen on test)" in printed["table2_clean"].markdown()
    assert "specificity (threshold chosen on test)" in printed["table3_specificity"].markdown()
    for table in [*printed.values(), tables.long(results)]:
        bare = {"image_f1", "accuracy", "precision", "recall", "specificity"}
        assert not bare & {*table.columns, *(cell for row in rows_of(table) for cell in row)}, table.name
    unnoted = {name for name, table in printed.items() if UPPER_BOUND not in table.note}
    assert unnoted == {"table1_splits", "table4_shift_ranking"}  # need no threshold
    assert "thresholds were chosen on the test images" in printed["table1_splits"].note
    rows = plots.rows("sample", results)
    for chart in ("scenarios", "unified_gap", "coreset"):
        assert {"image_f1", "image_f1_on_test"} & {row["metric"] for row in rows[chart]} == {"image_f1_on_test"}


def test_methods_calibrated_on_different_images_are_not_put_side_by_side(run):
    choose_on_test("padim")
    with pytest.raises(AdshiftError, match="of one method were chosen on val, of another on test"):
        collected()


def test_no_published_value_beside_another_protocol():
    assert published.read_published("mvtec", STUDY, "resnet50", Path("reference"))
    assert published.read_published("mvtec", STUDY, "resnet50", Path("reference"), "test") == {}


def test_the_thresholds_are_each_methods_classs_and_scenarios(run):
    expected = {}
    for method in fake_run.METHODS:
        path = Path(f"data/evaluation/sample/image/{method}.json")
        image = json.loads(path.read_text())
        for name in fake_run.CLASSES:
            for scenario in SCENARIOS:
                expected[method, name, scenario.name] = float(len(expected))
                image["classes"][name][scenario.name]["threshold"] = float(len(expected)) - 1
        path.write_text(json.dumps(image))
    assert collected().thresholds() == expected


def test_numbers_are_written_with_six_digits_and_shown_as_their_column_asks():
    columns = ("rows", "ratio", "seconds", "defective_pixels", "gap", "difference", "pro_difference", "pro_published",
               "pro", "images", "pro_spread")  # fmt: skip
    number = 0.123456789
    row = (1234.5678, 0.05, 61.26, number, number, -number, 0.0, 2 / 3, 1 / 3000, 1234567, number)
    table = table_of(columns, row)
    assert table.csv().splitlines()[1] == (
        "1234.57,0.05,61.26,0.123457,0.123457,-0.123457,0.0,0.666667,0.000333333,1234567,0.123457"
    )
    assert table.cells() == [
        ["rows", "ratio", "seconds", "defective pixels", "gap", "difference", "difference", "published", "PRO",
         "images", "standard deviation"],
        ["1235", "0.05", "61.3", "0.1235", "+0.123", "-0.123", "+0.000", "0.667", "0.000", "1234567", "0.123"],
    ]  # fmt: skip


def test_an_estimate_has_its_ends_beside_it_and_an_undefined_one_has_none():
    rows = (
        ("padim", None, None, None),
        ("padim", 0.5, 0.25, 0.75),
        ("padim", 0.5, None, None),
        ("padim", 0.0, 0.0, 0.0),
    )
    table = table_of(("method", "difference", "difference_low", "difference_high"), *rows)
    assert table.csv().splitlines() == [
        "method,difference,difference_low,difference_high", "padim,,,", "padim,0.5,0.25,0.75", "padim,0.5,,",
        "padim,0.0,0.0,0.0"]  # fmt: skip
    assert [row[1] for row in table.cells()[1:]] == [
        "\N{EN DASH}", "+0.500 [+0.250, +0.750]", "+0.500", "+0.000 [+0.000, +0.000]"]  # fmt: skip
    assert table.markdown().splitlines()[3] == "| --- | ---: |"


def test_a_table_that_is_too_long_for_markdown_has_a_title_too(run):
    assert tables.long(collected()).title == "All results"


def test_a_table_without_rows_has_a_header():
    table = table_of(("method", "pro"))
    assert table.csv() == "method,pro\n"
    assert table.markdown() == "# Title\n\n| method | PRO |\n| --- | --- |\n"


def test_a_table_of_more_than_200_rows_has_no_markdown(tmp_path):
    written = [replace(table_of(("images",), *((1,),) * rows), name=f"t{rows}") for rows in (1, 200, 201)]
    write(tmp_path / "new" / "folder", written)
    files = {path.name for path in (tmp_path / "new" / "folder").iterdir()}
    assert files == {"t1.csv", "t1.md", "t200.csv", "t200.md", "t201.csv"}
    write(tmp_path / "new" / "folder", written[:1])  # a folder that is there is written to


@pytest.mark.parametrize("content", [None, "a,b\n1\n", 'a,b\n1,"2\n', b"a\n\xff\n", "a,checksum=00000000\n1\n"])
def test_a_csv_that_cannot_be_read_is_named(tmp_path, content):
    path = tmp_path / "figures.csv"
    if content is not None:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(AdshiftError) as error:
        published.read_csv(path)
    assert error.value.what.startswith(f"{path}: not readable (") and error.value.what.endswith(")")
    assert error.value.remedy == checksums.REMEDY


def test_what_an_evaluation_lacks_is_named_with_its_file_and_the_remedy(run):
    path = Path("data/evaluation/sample/ablation.json")
    path.write_text(json.dumps({"classes": {"hazelnut": {}}}))
    with pytest.raises(AdshiftError) as error:
        collected()
    assert error.value.what == "data/evaluation/sample/ablation.json: no entry 0.01"
    assert error.value.remedy == "run `dvc repro evaluate`"
    path = Path("data/evaluation/sample/image/padim.json")
    image = json.loads(path.read_text())
    del image["classes"]["carpet"]["unified"]
    path.write_text(json.dumps(image))
    with pytest.raises(AdshiftError) as error:
        collected()
    assert error.value.what == "data/evaluation/sample, padim: no entry 'unified'"
    assert error.value.remedy == "run `dvc repro evaluate`"
    del image["on"]
    path.write_text(json.dumps(image))
    with pytest.raises(AdshiftError, match="padim: no entry 'on'"):
        collected()


def test_evaluations_of_other_protocols_are_told_with_their_folder(run):
    choose_on_test("padim")
    with pytest.raises(AdshiftError) as error:
        collected()
    assert error.value.what == (
        "data/evaluation/sample: thresholds of one method were chosen on val, of another on test"
    )
    assert error.value.remedy == "run `dvc repro evaluate`"


def test_a_printed_mean_has_our_name_unless_the_rows_are_ours() -> None:
    """A class may be named as printed tables name their means."""
    printed, own = {"class": published.PRINTED_MACRO, "value": "1"}, {"class": MACRO, "value": "2"}
    assert published.with_means([printed]) == [{"class": MACRO, "value": "1"}]
    assert published.with_means([printed, own]) == [printed, own]


TITLES = {"nut": "metal-nut", "bolt": "größe v1.2"}


def test_classes_have_their_names_for_people_in_markdown_and_their_keys_in_csv():
    rows = [("nut", "bolt", 0.5), ("bolt", "nut", 0.25), (MACRO, "bolt", 0.4)]
    for columns in (("class", "applied_to", "fpr"), ("threshold_of", "applied_to", "fpr")):
        table = table_of(columns, *rows)
        shown = [row[:2] for row in table.cells(TITLES)[1:]]
        assert shown == [["metal-nut", "größe v1.2"], ["größe v1.2", "metal-nut"], ["mean of classes", "größe v1.2"]]
        assert "| metal-nut | größe v1.2 |" in table.markdown(TITLES)
        assert "nut,bolt,0.5" in table.csv()


def test_written_tables_have_the_classes_names(tmp_path):
    write(tmp_path, [table_of(("class", "image_f1"), ("nut", 0.5))], {"nut": "metal-nut"})
    [page], [text] = ([file.read_text() for file in tmp_path.glob(f"*.{end}")] for end in ("md", "csv"))
    assert "metal-nut" in page and "metal-nut" not in text


def test_the_mean_of_one_class_is_that_class():
    """Its own row is shown, and no row of the mean beside it, whose figure is another here."""
    alone = {"nut": "metal-nut"}
    both = table_of(("class", "image_f1"), ("nut", 0.5), (MACRO, 0.25))
    assert both.cells(alone)[1:] == [["metal-nut", "0.500"]]
    mean = table_of(("class", "image_f1"), (MACRO, 0.5))
    assert mean.cells(alone)[1:] == [["metal-nut", "0.500"]]
