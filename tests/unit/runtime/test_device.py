"""The device: which one is chosen, memory that runs out, and what stays without torch. No card is needed."""

import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from adshift import cli
from adshift.errors import AdshiftError, AdshiftWarning
from adshift.runtime import device
from tiny import ROOT

GIB = 2**30


@pytest.fixture
def card(monkeypatch: pytest.MonkeyPatch):
    """Two cards as torch and the driver would report them, with 20 of 80 GiB free."""
    monkeypatch.setattr(device, "cards", lambda: 2)
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda index: (20 * GIB, 80 * GIB))
    before = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = True
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    device._choose.cache_clear()
    yield monkeypatch
    device._choose.cache_clear()
    torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = before


@pytest.mark.parametrize(
    ("value", "expected"),
    [("auto", "cuda:0"), ("", "cuda:0"), ("cpu", "cpu"), ("cuda", "cuda:0"), ("cuda:1", "cuda:1")],
)
def test_a_card_that_is_there_is_used(card: pytest.MonkeyPatch, value: str, expected: str) -> None:
    card.setenv("ADSHIFT_DEVICE", value)
    assert device.choose() == expected
    if expected != "cpu":  # float32 is float32
        assert not torch.backends.cudnn.allow_tf32 and not torch.backends.cuda.matmul.allow_tf32


def test_without_a_card_auto_is_the_processor(card: pytest.MonkeyPatch) -> None:
    card.setattr(device, "cards", lambda: 0)
    card.delenv("ADSHIFT_DEVICE", raising=False)
    assert device.choose() == "cpu"
    assert device.used() == "cpu"


def test_a_full_card_is_passed_over_by_auto_and_said(card: pytest.MonkeyPatch) -> None:
    card.setattr(torch.cuda, "mem_get_info", lambda index: (GIB, 80 * GIB))
    card.setenv("ADSHIFT_DEVICE", "auto")
    with pytest.warns(AdshiftWarning, match=r"processor is used: cuda:0 has 1\.0 of 80\.0 GiB free"):
        assert device.choose() == "cpu"


@pytest.mark.parametrize(
    ("value", "changes", "reason"),
    [
        ("cuda", {"version.cuda": None}, "was built without CUDA"),
        ("cuda", {"cuda.is_available": lambda: False}, "torch sees no CUDA device"),
        ("cuda:7", {}, r"no card has number 7, only 2 are visible"),
        ("cuda:1", {"cuda.mem_get_info": lambda index: (GIB, 80 * GIB)}, r"cuda:1 has 1\.0 of 80\.0 GiB free"),
        ("gpu", {}, "'gpu' is no device"),
        ("cuda:x", {}, "'cuda:x' is no device"),
    ],
)
def test_a_device_asked_for_by_name_is_never_replaced(
    card: pytest.MonkeyPatch, value: str, changes: dict, reason: str
) -> None:
    for name, replacement in changes.items():
        card.setattr(f"torch.{name}", replacement)
    card.setenv("ADSHIFT_DEVICE", value)
    with pytest.raises(AdshiftError, match=reason):
        device.choose()
    with pytest.raises(AdshiftError, match=reason):
        device.check()


def test_the_option_sets_the_variable(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    monkeypatch.setenv("ADSHIFT_DEVICE", "auto")
    monkeypatch.setattr(sys, "argv", ["adshift", "backbones", "--device", "card"])
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert "ADSHIFT_DEVICE='card' is no device" in str(end.value.code)
    parser = cli.parser()
    for name in cli.NETWORKS:
        assert "--device" in parser._subparsers._group_actions[0].choices[name].format_help()


def limited(most: int, sizes: list[int]):
    """Work that fits the memory for at most `most` items."""

    def work(part: slice) -> np.ndarray:
        size = part.stop - part.start
        sizes.append(size)
        if size > most:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nMore lines.")
        return np.arange(part.start, part.stop)

    return work


def test_batches_are_halved_until_they_fit_and_it_is_said_once() -> None:
    batches, sizes = device.Batches("resnet50"), []
    with pytest.warns(AdshiftWarning) as said:
        parts = batches.run(limited(5, sizes), 16)
        parts_of_next = batches.run(limited(5, sizes), 6)
    np.testing.assert_array_equal(np.concatenate(parts), np.arange(16))
    np.testing.assert_array_equal(np.concatenate(parts_of_next), np.arange(6))
    assert sizes == [16, 8, 4, 4, 4, 4, 4, 2]  # later batches begin with the size that fits
    assert [str(one.message).split(" (")[0] for one in said] == [
        "resnet50: out of memory, batches are halved from 16 images on"
    ]


def test_one_image_too_much_is_an_error() -> None:
    with pytest.warns(AdshiftWarning), pytest.raises(AdshiftError, match="resnet50: one image is too much"):
        device.Batches("resnet50").run(limited(0, []), 4)


def test_other_errors_pass_the_batches() -> None:
    def broken(part: slice) -> None:
        raise RuntimeError("shapes differ")

    with pytest.raises(RuntimeError, match="shapes differ"):
        device.Batches("resnet50").run(broken, 4)


def test_memory_that_runs_out_in_a_fit_is_explained(card: pytest.MonkeyPatch) -> None:
    card.setenv("ADSHIFT_DEVICE", "cuda")
    reason = r"padim: cuda:0 has too little memory \(full\)\n.*padim_streaming"
    with pytest.raises(AdshiftError, match=reason), device.explained("padim", "use padim_streaming"):
        raise torch.OutOfMemoryError("full\nmore")


def test_without_a_card_no_torch_is_imported() -> None:
    code = """
import sys
from adshift.runtime import device
assert device.choose() == "cpu" and device.used() == "cpu"
device.synchronize()
assert "torch" not in sys.modules
"""
    if device.cards():
        pytest.skip("there is a card")
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT, env={"PYTHONPATH": str(ROOT / "src")})


def test_work_on_a_card_has_few_threads_that_stay(card: pytest.MonkeyPatch) -> None:
    """cuDNN plans its layers anew in every thread; each thread has a stream, and waits for it."""
    streams: list[object] = []
    card.setenv("ADSHIFT_DEVICE", "cuda")
    card.setattr(torch.cuda, "set_device", lambda where: None)
    card.setattr(torch.cuda, "Stream", lambda where: object())
    card.setattr(torch.cuda, "set_stream", streams.append)
    waited: list[str] = []
    card.setattr(
        torch.cuda,
        "current_stream",
        lambda *_: SimpleNamespace(synchronize=lambda: waited.append(threading.current_thread().name)),
    )
    device._threads.cache_clear()

    def work(number: int) -> tuple[int, str, bool]:
        nested = device.run(threading.get_ident)  # as a network within a method's scoring: in the same thread
        assert nested == threading.get_ident()
        return number, threading.current_thread().name, torch.is_inference_mode_enabled()

    try:
        with ThreadPoolExecutor(8) as pool:
            results = list(pool.map(lambda number: device.run(lambda: work(number)), range(40)))
        with pytest.raises(torch.OutOfMemoryError):
            device.run(limited(0, []).__get__(slice(0, 1)))
    finally:
        device._threads().shutdown()
        device._threads.cache_clear()
    assert [number for number, _, _ in results] == list(range(40))
    assert len({name for _, name, _ in results}) <= device.AT_ONCE == len(streams)
    assert all(exact for _, _, exact in results)
    there = [name for name in waited if name.startswith(device.CARD)]
    assert len(there) == 40  # for what they have done
    assert len(waited) - len(there) == 41  # for what others had sent
