"""Published figures beside those of a run, and why the rest does not compare."""

import csv
from pathlib import Path

import pytest

from adshift.cli import parser
from adshift.errors import AdshiftError
from adshift.report import targets
from adshift.report.labels import MACRO
from adshift.report.table import Estimate
from adshift.report.targets import Figures, Setting
from tiny import ROOT

SCREW = Setting("mvtec", ("screw",), "resnet18", "official", "256", "224")


def figures(*values: float) -> Figures:
    key = ("padim", "clean", "screw", "image_auroc")
    return Figures([{key: Estimate(value, value - 0.1, value + 0.1)} for value in values])


def table_of(setting: Setting, ours: Figures) -> tuple[list[dict[str, object]], dict[str, int], str]:
    table, rest = targets.beside(targets.read(ROOT / "reference"), setting, ours)
    return table.frame.to_dict("records"), rest, table.note


def test_the_figure_of_a_class_backbone_and_protocol() -> None:
    """anomalib's page prints 0.759 for PaDiM on screw with ResNet-18."""
    (row,), rest, note = table_of(SCREW, figures(0.70))
    assert (row["published"], row["ours"], row["ours_low"], row["ours_high"]) == (0.759, 0.70, 0.6, pytest.approx(0.8))
    assert row["difference"] == pytest.approx(-0.059)
    assert row["above_0.02"] == "yes"
    assert row["not_printed"] == "resolution"
    assert "anomalib" in str(row["source"])
    assert rest["other backbone (wide_resnet50_2)"] == 3  # image and pixel AUROC, best F1
    assert rest["other backbone (average of several)"] == 3  # of the thesis; pixel F1 is no metric here
    assert rest["class not in this run"] > 100
    assert "other data" in note
    assert "Left out" in note


def test_spread_over_runs() -> None:
    (row,), _, note = table_of(SCREW, figures(0.75, 0.77))
    assert (row["ours"], row["above_0.02"]) == (pytest.approx(0.76), "")
    assert row["ours_spread"] == pytest.approx(0.02 / 2**0.5)
    assert "Means of 2 runs" in note


def test_anomalibs_own_stands_beside() -> None:
    ours = figures(0.75)
    assert "anomalibs_own" not in table_of(SCREW, ours)[0][0]
    ours.runs[0]["anomalib_padim", "clean", "screw", "image_auroc"] = Estimate(0.76, None, None)
    table, _ = targets.beside(targets.read(ROOT / "reference"), SCREW, ours)
    assert table.frame["anomalibs_own"].tolist() == [0.76]
    assert any("(anomalib's own 0.760)" in line for line in targets.lines(table))


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"dataset": "visa"}, "other data"),
        ({"classes": ("grid",)}, "class not in this run"),
        ({"protocol": "study"}, "other protocol (official)"),
        ({"backbone": "resnet50"}, "other backbone (resnet18)"),
    ],
)
def test_why_a_figure_does_not_compare(changed: dict[str, object], reason: str) -> None:
    rows, rest, _ = table_of(Setting(**{**vars(SCREW), **changed}), figures(0.7))
    assert not rows
    assert rest[reason] > 0


def test_resolution_and_means() -> None:
    """The XAI study: 256 cropped to 224. A mean compares if the run has the same classes."""
    bottle = Setting("mvtec", ("bottle",), "resnet18", "official", "224", "")
    ours = Figures([{("padim", "clean", name, "image_auroc"): Estimate(0.9, None, None) for name in ("bottle", MACRO)}])
    _, rest, _ = table_of(bottle, ours)
    assert rest["other resolution (256 cropped to 224)"] == 8  # in tables 1 and 2
    assert rest["a mean over other classes"] > 0
    three = Setting("mvtec", ("bottle", "cable", "hazelnut"), "resnet18", "official", "256", "224")
    rows, _, _ = table_of(three, ours)
    assert {(row["class"], row["published"]) for row in rows if "Explainable" in str(row["source"])} == {
        ("bottle", 0.9952), ("bottle", 0.996), (MACRO, 0.8688),
    }  # fmt: skip


def test_a_file_without_source_is_refused(tmp_path: Path) -> None:
    for name in ("sources.csv", "anomalib_model_pages.csv"):
        (tmp_path / name).write_bytes((ROOT / "reference" / name).read_bytes())
    assert len(targets.read(tmp_path)) == 976
    (tmp_path / "own.csv").write_text("method,class,metric,value\npadim,screw,image_auroc,0.9\n")
    with pytest.raises(AdshiftError, match=r"own\.csv: its figures have no source"):
        targets.read(tmp_path)
    line = "own.csv,a study,mvtec,official,resnet18,,,clean,\n"
    (tmp_path / "sources.csv").write_text((ROOT / "reference/sources.csv").read_text() + line)
    assert len(targets.read(tmp_path)) == 977
    (tmp_path / "own.csv").write_text("method,class,metric,value\npadim,screw,image_auroc,high\n")
    with pytest.raises(AdshiftError, match="is 'high', no number"):
        targets.read(tmp_path)


def test_the_verb(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    text = (ROOT / "params.yaml").read_text()
    for old, new in (("name: sample ", "name: mvtec "), ("[hazelnut, carpet, zipper]", "[screw]"),
                     ("tf_efficientnet_lite0 ", "resnet18 "), ("protocol: study", "protocol: official")):  # fmt: skip
        assert old in text
        text = text.replace(old, new)
    run = tmp_path / "run"
    run.mkdir()
    (run / "params.yaml").write_text(text)
    header = "method,scenario,class,metric,value,value_low,value_high\n"
    (run / "results.csv").write_text(f"{header}padim,clean,screw,image_auroc,0.71,0.6,0.8\n")
    arguments = parser().parse_args(["published", str(run), str(run), "--csv", str(tmp_path / "out.csv")])
    arguments.work(arguments)
    printed = capsys.readouterr().out
    assert "0.759" in printed
    assert "[0.600, 0.800]" in printed
    assert "-0.049*" in printed
    (row,) = csv.DictReader((tmp_path / "out.csv").open())
    assert (row["class"], row["ours"], row["published"]) == ("screw", "0.71", "0.759")
    other = tmp_path / "other"
    other.mkdir()
    (other / "results.csv").write_text(header)
    with pytest.raises(AdshiftError, match=r"params\.yaml"):
        arguments.work(parser().parse_args(["published", str(other)]))
    (other / "params.yaml").write_text(text.replace("resnet18 ", "resnet50 "))
    with pytest.raises(AdshiftError, match="other data, classes, backbone, protocol or resolution"):
        arguments.work(parser().parse_args(["published", str(run), str(other)]))
