"""The first 300 cases of each kind of `make fuzz` (tests/faults/fuzz.py), and that it would notice."""

import json
import time
from pathlib import Path

import numpy as np
import pytest

from adshift.data import images
from adshift.project import params
from faults import fuzz

CASES = range(300)


def test_mutated_images() -> None:
    found = fuzz.sweep(fuzz.fuzz_image, CASES)
    assert found["failures"] == {}
    assert found["read"] >= 40 and found["refused"] >= 40


def test_mutated_params(tmp_path: Path) -> None:
    found = fuzz.sweep(lambda case: fuzz.fuzz_params(case, tmp_path), CASES)
    assert found["failures"] == {}
    assert found["read"] >= 10 and found["refused"] >= 40


def test_what_is_wrong_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    decode, load = images.decode_image, params.load_all

    def shifted(data: bytes, path: str) -> np.ndarray:
        return decode(data, path) ^ 1

    monkeypatch.setattr(images, "decode_image", shifted)
    assert "sees another picture" in str(fuzz.sweep(fuzz.fuzz_image, range(3))["failures"])

    def crash(*_: object) -> None:
        raise ZeroDivisionError("oops")

    monkeypatch.setattr(images, "decode_image", crash)
    assert "ZeroDivisionError: oops" in str(fuzz.sweep(fuzz.fuzz_image, range(3))["failures"])

    def other_seed(path: Path) -> object:
        found = load(path)
        found.seed += 1
        return found

    monkeypatch.setattr(params, "load_all", other_seed)
    assert "the values are not those" in str(
        fuzz.sweep(lambda case: fuzz.fuzz_params(case, tmp_path), range(60))["failures"]
    )


def test_a_case_that_hangs_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fuzz, "LIMIT", 0.05)

    def hang(_: int) -> str:
        while True:
            pass

    assert "0.05 seconds of the processor" in fuzz.sweep(hang, range(1))["failures"][0]

    def wait(_: int) -> str:
        time.sleep(30)
        return "read"

    monkeypatch.setattr(fuzz, "PATIENCE", 0.05)
    assert "0.05 seconds by the clock" in fuzz.sweep(wait, range(1))["failures"][0]


def test_the_figures_of_the_last_whole_run() -> None:
    found = json.loads(fuzz.RESULT.read_text())
    for kind in ("images", "params"):
        assert found[kind]["cases"] == fuzz.CASES and found[kind]["failures"] == {}
        assert found[kind]["read"] + found[kind]["refused"] == fuzz.CASES
