"""The comparison of two lock files tells a result that differs from a record of code."""

from pathlib import Path

import compare_locks


def lock(folder: Path, **hashes: str) -> Path:
    (folder / "pipeline").mkdir(parents=True)
    outs = "".join(f"\n      - path: {path.replace('__', '/')}\n        md5: {md5}" for path, md5 in hashes.items())
    (folder / "dvc.lock").write_text(f"schema: '2.0'\nstages:\n  one:\n    cmd: x\n    outs:{outs}\n")
    (folder / "pipeline" / "dvc.lock").write_text(
        "schema: '2.0'\nstages:\n  two:\n    cmd: x\n    outs:\n      - path: data/uncached\n"
    )
    return folder


def test_results_are_told_from_records_of_code(tmp_path: Path) -> None:
    one = compare_locks.outputs(lock(tmp_path / "a", data__scores="1", data__split="1", models__m="1", timings="1"))
    other = compare_locks.outputs(lock(tmp_path / "b", data__scores="2", data__split="1", models__m="2", data__new="1"))
    assert set(one) == {"data/scores", "data/split", "models/m", "timings"}
    assert compare_locks.different(one, other) == (["data/new", "data/scores"], ["models/m", "timings"])
    assert compare_locks.different(one, one) == ([], [])
