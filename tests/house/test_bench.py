"""The benchmarks run, at their smallest, and keep what they should. Nothing here is about time."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]

import bench_coreset  # noqa: E402
import bench_pixel_metrics  # noqa: E402
import bench_scale  # noqa: E402
import harness  # noqa: E402
import run  # noqa: E402

KEYS = {"ours", "peer", "ratio", "memory", "rounds", "targets"}


@pytest.fixture
def results(tmp_path, monkeypatch):
    monkeypatch.setattr(run, "RESULTS", tmp_path / "latest.json")
    return run.RESULTS


def an_entry(seconds: float = 1.0) -> harness.Entry:
    found = {name: {"seconds": seconds, "all": [seconds], "memory": 10} for name in ("ours", "peer")}
    return harness.entry(found, harness.at_most("ours / peer", harness.share(found), 1.5), of="nothing")


def assert_sound(entry: harness.Entry) -> None:
    assert entry.keys() >= KEYS
    assert entry["memory"].keys() == {"ours", "peer"}
    assert all(target["met"] == (target["value"] <= target["limit"]) for target in entry["targets"])
    json.dumps(entry, allow_nan=False)


def test_contenders_take_turns() -> None:
    calls: list[str] = []
    found = harness.measure({"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, rounds=3)
    assert calls == ["a", "b"] * 3
    assert [len(record["all"]) for record in found.values()] == [3, 3]


def test_a_slow_contender_sits_out() -> None:
    found = harness.measure({"slow": lambda: sum(range(10_000)), "other": lambda: 7}, rounds=3, limit=0)
    assert len(found["slow"]["all"]) == 1
    assert found["other"]["result"] == 7


def test_memory_is_the_peak_beside_the_start() -> None:
    held = np.ones(5_000_000)  # 40 MB, not to be counted
    found = harness.measure({"a": lambda: float(np.ones(2_500_000).sum()), "b": lambda: float(held[0])}, rounds=2)
    assert 19e6 < found["a"]["memory"] < 30e6
    assert found["b"]["memory"] < 5e6


def test_an_entry_of_two_and_of_one() -> None:
    found = {
        "ours": {"seconds": 2.0, "all": [2.0, 2.0], "memory": 5},
        "peer": {"seconds": 6.0, "all": [6.0], "memory": 9},
    }
    entry = harness.entry(found, harness.at_most("x", 3, 2), note="n")
    assert_sound(entry)
    assert (entry["ratio"], entry["rounds"], entry["note"]) == (3.0, {"ours": 2, "peer": 1}, "n")
    assert not entry["targets"][0]["met"]
    alone = harness.entry({"ours": found["ours"]})
    assert_sound(alone)
    assert alone["peer"] is alone["ratio"] is alone["memory"]["peer"] is None


def test_keeping_one_benchmark_leaves_the_others(results) -> None:
    run.keep("coreset", {"coreset": an_entry(), "coreset.1536": an_entry()})
    run.keep("score", {"score": an_entry()})
    run.keep("coreset", {"coreset": an_entry(5.0)})
    kept = run.read()
    assert kept.keys() == {"coreset", "score"}  # coreset.1536 is gone with the run that made it
    assert (kept["coreset"]["ours"], kept["score"]["ours"]) == (5.0, 1.0)
    for entry in kept.values():
        assert_sound(entry)
        assert entry.keys() >= set(harness.PROVENANCE)
        assert entry["versions"].keys() == {"python", *harness.PACKAGES}


def test_every_benchmark_is_named_and_every_name_is_one() -> None:
    assert set(run.NAMES) == {path.stem.removeprefix("bench_") for path in run.HERE.glob("bench_*.py")}


def test_an_unknown_benchmark_is_refused() -> None:
    with pytest.raises(SystemExit, match="no benchmark nonsense"):
        run.main(["nonsense"])


def test_a_named_benchmark_alone_is_run_kept_and_printed(results, monkeypatch, capsys) -> None:
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(bench_coreset, "run", lambda: {"coreset": an_entry(), "coreset.1536": an_entry(2.0)})
    run.main(["coreset"])
    assert run.read().keys() == {"coreset", "coreset.1536"}
    assert "2.00 s" in capsys.readouterr().out
    run.main(["--markdown"])
    assert "| coreset.1536 | 2.00 s |" in capsys.readouterr().out


def test_tables(results) -> None:
    run.keep("score", {"score": an_entry(), "score.search": an_entry()})
    entries = run.read()
    lines = run.aligned(run.rows(entries)).splitlines()
    assert [line.split()[0] for line in lines] == ["benchmark", "score", "score.search"]
    assert lines[1].endswith("yes")
    text = run.markdown(entries)
    assert text.count("\n| score") == 2
    assert "- `score.search`: of nothing; rounds ours 1, peer 1" in text


def test_the_page_is_filled_between_its_markers(results) -> None:
    run.keep("score", {"score": an_entry()})
    page = "a\n<!-- bench:score -->\nold\n<!-- /bench -->\nb\n<!-- bench:image -->\n<!-- /bench -->\nc\n"
    found = run.filled(page, run.read())
    assert "old" not in found
    assert "| score | 1.00 s | 1.00 s |" in found
    assert "Not measured yet: `make bench ONLY=image`." in found
    assert run.filled(found, run.read()) == found
    with pytest.raises(ValueError, match="not closed"):
        run.filled("<!-- bench:score -->\n", {})


def test_the_performance_page_has_a_table_for_every_benchmark() -> None:
    page = run.PAGE.read_text(encoding="utf-8")
    assert [f"{run.OPEN}{name} -->" in page for name in (*run.NAMES, "sets")] == [True] * (len(run.NAMES) + 1)
    assert run.filled(page, run.read()) == page  # `python benchmarks/run.py --docs` was not forgotten


def test_coreset_against_its_peer(monkeypatch) -> None:
    monkeypatch.chdir(ROOT)
    points = np.random.default_rng(0).standard_normal((600, 8)).astype(np.float32)
    entry = bench_coreset.compare(points, "noise", {"ours": bench_coreset.ours}, 0.05, 1)["ours"]
    assert_sound(entry)
    assert entry["picks"] == 30
    assert entry["radius"]["ours"] < 1.3 * entry["radius"]["peer"]


def test_pixel_metrics_against_their_peers() -> None:
    entries = bench_pixel_metrics.run(count=2, side=64, large=(2, 64), rounds=1)
    assert entries.keys() == {"pixel_metrics", "pixel_metrics.1024"}
    for entry in entries.values():
        assert_sound(entry)
    assert entries["pixel_metrics"]["difference"] < 1e-5
    assert entries["pixel_metrics.1024"]["memory"]["ours"] > 20e6  # a whole process


def test_a_process_is_refused_more_than_it_is_allowed() -> None:
    code = "import harness, numpy; harness.allow(40_000_000); {}; print('fine')"
    said = [
        subprocess.run([sys.executable, "-c", code.format(f"numpy.ones({count})")], cwd=run.HERE, check=False,
                       capture_output=True, text=True)
        for count in (2_500_000, 25_000_000)
    ]  # fmt: skip
    assert said[0].stdout == "fine\n"
    assert "MemoryError" in said[1].stderr


def test_a_failed_child_is_told() -> None:
    with pytest.raises(RuntimeError, match="bench_scale:power"):
        harness.alone("bench_scale:power", 1)


def test_a_fitted_power() -> None:
    rows = [{"patches": x, "fit": {"seconds": 3 * x**1.5, "anonymous": 2 * x, "start": x}} for x in (10, 100, 1000)]
    assert bench_scale.power(rows, "fit", "seconds") == pytest.approx((3, 1.5))
    assert bench_scale.power(rows, "fit", "memory") == pytest.approx((1, 1))
    powers = {what: {"seconds": (2.0, 1.0), "memory": (1.0, 1.0)} for what in ("fit", "score")}
    images, classes = bench_scale.SETS["VisA"]
    found = bench_scale.extrapolate(powers)["VisA"]
    assert found["fit_seconds"] == pytest.approx(found["unified_fit_seconds"]) == pytest.approx(2 * 784 * images)
    assert found["fit_memory"] == pytest.approx(784 * images / classes)


def test_jitter_keeps_the_real_rows_first() -> None:
    points = np.random.default_rng(0).standard_normal((50, 4)).astype(np.float32)
    rows = harness.jittered(points, 120)
    np.testing.assert_array_equal(rows[:50], points)
    moved = np.abs(rows[50:100] - points).max(axis=0)
    assert (moved > 0).all()
    assert (moved < 0.6 * points.std(axis=0)).all()
