"""`benchmarks/device.py` runs on the processor, at its smallest, and writes every figure."""

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_same_code_on_the_processor(tmp_path: Path) -> None:
    out = tmp_path / "device.json"
    command = [sys.executable, "benchmarks/device.py", "--device", "cpu", "--tiny", "--out", str(out)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(out.read_text())
    assert found["device"] == "cpu"
    assert set(found["embed"]) == {
        "decoding", "tf_efficientnet_lite0.float32", "tf_efficientnet_lite0.float16", "resnet50.float32",
        "resnet50.float16",
    }  # fmt: skip
    assert all(entry["ours"] > 0 and entry["plain"] > 0 for name, entry in found["embed"].items() if name != "decoding")
    assert [entry["rows"] for entry in found["search"]] == [500, 2000]
    assert all(entry["same_rows"] > 0.999 for entry in found["search"])
    assert found["padim_fit"]["seconds"] > 0
    assert 0 < found["predict"]["p50_ms"] <= found["predict"]["p99_ms"]
    assert found["predict"]["score_error"] == found["feature_error"] == 0  # the processor agrees with itself
