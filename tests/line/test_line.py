"""The service as a plant runs it: a process, a real broker, a receiver that fails, signals, many clients, slow ones."""

import json
import os
import signal
import socket
import sqlite3
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

import line
import plain_model
from plain_model import picture

GOOD, BAD = picture(64), picture(200)
broker_needed = pytest.mark.skipif(
    line.MOSQUITTO is None and os.environ.get("ADSHIFT_LINE") != "required", reason="mosquitto is not installed"
)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return plain_model.write(tmp_path / "nut.onnx")


@pytest.fixture
def serving(model: Path, tmp_path: Path) -> Iterator[line.Serving]:
    one = line.Serving(tmp_path, model, "--timeout", "2", "--queue", "8")
    yield one
    one.end()


def post(url: str, data: bytes, model: str = "nut", **options: Any) -> httpx.Response:
    return httpx.post(f"{url}/v1/models/{model}/predict", content=data, timeout=30, verify=line.PLAIN, **options)


def test_a_thousand_requests_at_once(model: Path, tmp_path: Path) -> None:
    serving = line.Serving(tmp_path, model, "--queue", "8")

    def one(number: int) -> tuple[int, str]:
        for _ in range(3):
            try:
                answer = post(serving.url, BAD if number % 2 else GOOD)
                return answer.status_code, answer.json()["results"][0]["id"] if answer.is_success else ""
            except httpx.TransportError:  # the backlog of the socket
                time.sleep(0.2)
        return 0, ""

    with line.ended(serving):
        with ThreadPoolExecutor(100) as pool:
            answers = list(pool.map(one, range(1000)))
        codes = Counter(code for code, _ in answers)
        assert codes.keys() <= {200, 429}, codes
        assert codes[200] > 50
        assert codes[429] > 0
        kept = {one["id"] for one in serving.ask("/v1/models/nut/verdicts?count=1000")["verdicts"]}
        assert kept == {identity for code, identity in answers if code == 200}
        assert serving.ask("/v1/models")["in_flight"] == 0


def test_a_client_that_sends_a_byte_a_second(serving: line.Serving) -> None:
    with socket.create_connection(("127.0.0.1", serving.port)) as slow:
        head = f"POST /v1/models/nut/predict HTTP/1.1\r\nHost: 127.0.0.1:{serving.port}\r\nContent-Length: 100\r\n\r\n"
        slow.sendall(head.encode())
        for _ in range(3):
            slow.sendall(b"x")
            time.sleep(0.5)
            assert post(serving.url, GOOD).status_code == 200  # others are answered meanwhile
        slow.settimeout(10)
        assert b" 408 " in slow.recv(4096)


@pytest.mark.parametrize(
    "sent",
    [
        b"\x16\x03\x01\x02\x00",
        b"GET / HTTP/9.9\r\n\r\n",
        b"G" * 100_000,
        b"POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
    ],
)
def test_what_is_no_http(serving: line.Serving, sent: bytes) -> None:
    with socket.create_connection(("127.0.0.1", serving.port)) as odd:
        odd.settimeout(10)
        odd.sendall(sent)
        try:
            answer = odd.recv(4096)
        except ConnectionResetError:
            answer = b""
    assert b" 200 " not in answer
    assert post(serving.url, GOOD).status_code == 200


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_within_seconds_and_what_was_accepted_is_answered(
    model: Path, tmp_path: Path, number: int
) -> None:
    serving = line.Serving(tmp_path, model, "--jsonl", tmp_path / "v.jsonl")
    with ThreadPoolExecutor(8) as pool:
        running = [pool.submit(post, serving.url, BAD) for _ in range(40)]
        time.sleep(0.1)
        assert serving.end(number) < 5
        answered = [one.result() for one in running if not one.exception()]
    ids = [one.json()["results"][0]["id"] for one in answered if one.status_code == 200]
    database = sqlite3.connect(tmp_path / "state" / "journal.sqlite")
    kept = {identity for (identity,) in database.execute("SELECT id FROM verdicts")}
    database.close()
    assert set(ids) <= kept
    assert serving.process.returncode == 0
    assert "Traceback" not in serving.log.read_text()


def test_a_killed_service_sends_the_rest_after_the_next_start(model: Path, tmp_path: Path) -> None:
    receiver = line.Receiver()
    receiver.failing = 503
    with line.ended(receiver):
        serving = line.Serving(tmp_path, model, "--webhook", receiver.url)
        ids = [post(serving.url, BAD).json()["results"][0]["id"] for _ in range(20)]
        line.wait(lambda: receiver.failed)
        serving.end(signal.SIGKILL)
        receiver.failing = None
        serving = line.Serving(tmp_path, model, "--webhook", receiver.url)
        with line.ended(serving):
            line.wait(lambda: len(receiver.got) == 20)
            assert receiver.got == ids


@pytest.mark.parametrize("failing", [500, 429, "drop"])
def test_a_webhook_that_fails_gets_all_in_order(model: Path, tmp_path: Path, failing: int | str) -> None:
    receiver = line.Receiver()
    serving = line.Serving(tmp_path, model, "--webhook", receiver.url)
    with line.ended(receiver, serving):
        ids = [post(serving.url, GOOD).json()["results"][0]["id"] for _ in range(5)]
        line.wait(lambda: receiver.got == ids)
        receiver.failing = failing
        ids += [post(serving.url, BAD).json()["results"][0]["id"] for _ in range(15)]
        problem = line.wait(lambda: serving.ask("/v1/models")["problems"].get("sink webhook"))
        assert problem
        receiver.failing = None
        line.wait(lambda: len(receiver.got) >= 20)
        assert list(dict.fromkeys(receiver.got)) == ids
        assert line.wait(lambda: not serving.ask("/v1/models")["problems"]) is True


def test_sighup_takes_up_a_new_model(model: Path, serving: line.Serving) -> None:
    before = post(serving.url, BAD).json()["results"][0]
    model.write_bytes(b"damaged")
    os.kill(serving.process.pid, signal.SIGHUP)
    line.wait(lambda: "the one before goes on" in serving.log.read_text())
    assert post(serving.url, BAD).json()["results"][0]["model_id"] == before["model_id"]
    plain_model.write(model, threshold=220.0)
    os.kill(serving.process.pid, signal.SIGHUP)
    line.wait(lambda: post(serving.url, BAD).json()["results"][0]["threshold"] == 220.0)


@broker_needed
def test_images_and_verdicts_over_mqtt(model: Path, tmp_path: Path) -> None:
    import paho.mqtt.client as paho

    broker = line.Mosquitto(tmp_path / "broker")
    subscriber = line.Subscriber(broker.port, "plant/a")
    words = (model, "--mqtt", f"mqtt://127.0.0.1:{broker.port}/plant/a")
    serving = line.Serving(tmp_path, *words)
    camera = paho.Client(paho.CallbackAPIVersion.VERSION2)
    errors: list[str] = []
    camera.on_message = lambda _, __, message: errors.append(message.payload.decode())
    camera.connect("127.0.0.1", broker.port)
    camera.subscribe("plant/a/+/error", 1)
    camera.loop_start()
    try:
        line.wait(lambda: not serving.ask("/v1/models")["problems"])
        for data in (GOOD, BAD, b"a text", BAD):
            camera.publish("plant/a/nut/image", data, qos=1).wait_for_publish(5)
        camera.publish("plant/a/bolt/image", GOOD, qos=1).wait_for_publish(5)
        line.wait(lambda: len(subscriber.got) == 3 and len(errors) == 2)
        assert errors == ["image: not an image", "bolt: no such model, or the image is too large"]
        verdicts = serving.ask("/v1/models/nut/verdicts")["verdicts"]
        assert [(one["id"], one["source"]) for one in reversed(verdicts)] == [(one, "mqtt") for one in subscriber.got]
        broker.end()  # verdicts of other inputs wait
        waiting = [post(serving.url, BAD).json()["results"][0]["id"] for _ in range(5)]
        assert line.wait(lambda: serving.ask("/v1/models")["problems"].get("broker"))
        broker.start()
        line.wait(lambda: set(waiting) <= set(subscriber.got), 40)
        assert list(dict.fromkeys(subscriber.got))[-5:] == waiting
        serving.end()
        camera.publish("plant/a/nut/image", GOOD, qos=1).wait_for_publish(5)  # the broker keeps it
        serving = line.Serving(tmp_path, *words, port=serving.port)
        line.wait(lambda: len(set(subscriber.got)) == 9, 40)
    finally:
        camera.disconnect()
        camera.loop_stop()
        with line.ended(broker, subscriber, serving):
            pass


@broker_needed
def test_a_broker_that_refuses(model: Path, tmp_path: Path) -> None:
    broker = line.Mosquitto(tmp_path / "broker", "allow_anonymous false")
    serving = line.Serving(tmp_path, model, "--mqtt", f"mqtt://127.0.0.1:{broker.port}/plant")
    with line.ended(broker, serving):
        line.wait(lambda: "refuses" in serving.ask("/v1/models")["problems"].get("broker", ""))
        assert post(serving.url, BAD).status_code == 200


def test_it_says_what_it_cannot_start_with(model: Path, tmp_path: Path) -> None:
    cases = (
        ((model, "--host", "0.0.0.0"), "set ADSHIFT_TOKEN"),
        ((tmp_path / "no.onnx",), "no.onnx: not there"),
        ((model, model), "two models are called nut"),
        ((model, "--timeout", "0"), "--timeout 0"),
        ((model, "--queue", "0"), "--queue 0"),
        ((model, "--webhook", "nowhere"), "--webhook nowhere: no URL"),
        ((model, "--mqtt", "mqtt://u:hunter2@x"), "--mqtt mqtt://x"),
    )
    for words, told in cases:
        with pytest.raises(RuntimeError, match="error: ") as raised:
            line.Serving(tmp_path, *words)
        assert told in str(raised.value)
        assert "hunter2" not in str(raised.value)
        assert "Traceback" not in str(raised.value)
        (tmp_path / "service.log").unlink()


def test_a_record_says_who_judged(model: Path, tmp_path: Path) -> None:
    other = plain_model.write(tmp_path / "other.onnx", threshold=250.0)
    serving = line.Serving(tmp_path, f"left={model}", f"right={other}", "--jsonl", tmp_path / "v.jsonl")
    with line.ended(serving):
        for name, anomalous in (("left", True), ("right", False)):
            answer = post(serving.url, BAD, name).json()["results"][0]
            assert (answer["model"], answer["anomalous"]) == (name, anomalous)
        line.wait(lambda: (tmp_path / "v.jsonl").read_text().count("\n") == 2)
    lines = [json.loads(text) for text in (tmp_path / "v.jsonl").read_text().splitlines()]
    assert [one["model"] for one in lines] == ["left", "right"]
    assert lines[0]["model_id"] != lines[1]["model_id"]
