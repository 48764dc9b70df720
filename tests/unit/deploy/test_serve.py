"""The service without a socket: verdicts, what is refused, changes without a stop, and that nothing is lost."""

import base64
import io
import json
import os
import shutil
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient

import plain_model
from adshift.data.images import MAX_PIXELS
from adshift.deploy import monitoring
from adshift.deploy.serve import settings as told
from adshift.deploy.serve import sinks
from adshift.deploy.serve.engine import Engine
from adshift.deploy.serve.journal import Journal
from adshift.deploy.serve.service import Service
from adshift.errors import AdshiftError
from plain_model import picture

PREDICT = "/v1/models/nut/predict"
GOOD, BAD = picture(64), picture(200)
LIMITS = told.Limits(body=2 * told.MIB, pixels=1_000_000, images=4, queue=4, seconds=2.0, spool=50, kept=300)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return plain_model.write(tmp_path / "nut.onnx")


@contextmanager
def serving(model: Path, **changes: Any) -> Iterator[tuple[Service, TestClient]]:
    """A service and its client; state lies beside the model."""
    values: dict[str, Any] = {"models": {"nut": model}, "state": model.parent / "state", "limits": LIMITS, "drift": 0}
    service = Service(told.Settings(**values | changes))
    with TestClient(service.app, "http://127.0.0.1:8765", raise_server_exceptions=False) as client:
        yield service, client


@pytest.fixture
def client(model: Path) -> Iterator[TestClient]:
    with serving(model) as (_, client):
        yield client


def wait(until: Callable[[], Any], seconds: float = 10.0) -> Any:
    """What `until` returns once it is true."""
    end = time.monotonic() + seconds
    while not (result := until()):
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)
    return result


# --- verdicts


def test_a_request_is_answered_with_its_verdict(client: TestClient) -> None:
    answer = client.post(f"{PREDICT}?name=part 1.png", content=BAD)
    assert answer.status_code == 200
    [one] = answer.json()["results"]
    assert (one["anomalous"], one["model"], one["image"], one["source"]) == (True, "nut", "part 1.png", "http")
    assert (one["threshold"], one["threshold_from"]) == (128.0, "model")
    assert one["score"] == pytest.approx(200, abs=1)
    assert one["boxes"][0]["box"] == [0, 0, 48, 40]
    assert not {"map", "mask", "overlay"} & one.keys()
    [good] = client.post(PREDICT, content=GOOD).json()["results"]
    assert (good["anomalous"], good["boxes"]) == (False, [])
    assert good["id"] != one["id"]


def test_pictures_on_request(client: TestClient) -> None:
    [one] = client.post(f"{PREDICT}?map=true&mask=1&overlay=true", content=BAD).json()["results"]
    sizes = {}
    for kind in ("map", "mask", "overlay"):
        with Image.open(io.BytesIO(base64.b64decode(one[kind]))) as image:
            sizes[kind] = image.size
    assert sizes == {"map": (32, 32), "mask": (48, 40), "overlay": (32, 27)}
    with Image.open(io.BytesIO(base64.b64decode(one["mask"]))) as mask:
        assert np.asarray(mask).min() == 255


def test_several_images_in_a_form(client: TestClient) -> None:
    files = [("files", ("a.png", GOOD)), ("files", ("b.png", b"text")), ("more", ("../../c.png", BAD))]
    results = client.post(PREDICT, files=files).json()["results"]
    assert [one["image"] for one in results] == ["a.png", "b.png", "c.png"]
    assert [one.get("anomalous") for one in results] == [False, None, True]
    assert results[1]["error"] == "b.png: not an image"


def test_names_are_text_and_never_paths(client: TestClient, tmp_path: Path) -> None:
    for name in ("../../etc/passwd", "/tmp/x.png", "a\\b\\c.png", "<b>\n\x1b[31m", "x" * 5000, "", "nut\u202egnp.png"):
        [one] = client.post(PREDICT, params={"name": name}, content=GOOD).json()["results"]
        assert "/" not in one["image"] and "\\" not in one["image"] and one["image"].isprintable()
        assert 0 < len(one["image"]) <= 200
    assert sorted(path.name for path in tmp_path.iterdir()) == ["nut.onnx", "state"]


def test_the_page_and_its_parts_need_no_network(client: TestClient) -> None:
    for path in ("/", "/page/page.css", "/page/page.js", "/docs", "/docs/files/swagger-ui-bundle.js"):
        answer = client.get(path)
        assert answer.status_code == 200, path
        assert "default-src 'self'" in answer.headers["content-security-policy"]
        if "files" not in path:
            assert "://" not in answer.text.replace("http://www.w3.org/2000/svg", ""), path
    assert client.get("/openapi.json").json()["paths"].keys() >= {"/v1/models/{name}/predict", "/metrics"}


def test_figures_for_prometheus(client: TestClient) -> None:
    client.post(PREDICT, content=BAD)
    client.post(PREDICT, content=b"text")
    text = client.get("/metrics").text
    for line in (
        'adshift_verdicts_total{model="nut",verdict="anomalous"} 1.0',
        'adshift_refused_total{model="nut",status="415"} 1.0',
        'adshift_threshold{model="nut"} 128.0', "adshift_in_flight 0.0", 'adshift_seconds_count{model="nut"} 1.0',
    ):  # fmt: skip
        assert line in text


def test_the_operator_marks_a_false_alarm(client: TestClient) -> None:
    [one] = client.post(PREDICT, content=BAD).json()["results"]
    mark = f"/v1/verdicts/{one['id']}/mark"
    for said in (True, False, True):
        assert client.post(mark, json={"false_alarm": said}).json() == {"id": one["id"], "false_alarm": said}
        assert client.get("/v1/models/nut/verdicts").json()["verdicts"][0]["false_alarm"] is said
    overlay = client.get(f"/v1/models/nut/verdicts/{one['id']}/overlay")
    assert overlay.headers["content-type"] == "image/png"


# --- bad input: each with its documented answer


def bomb() -> bytes:
    """A PNG of few bytes that says it has 10^10 pixels."""
    header = (100_000).to_bytes(4, "big") * 2 + b"\x08\x02\x00\x00\x00"
    parts = [(b"IHDR", header), (b"IDAT", zlib.compress(b"\0" * 1000)), (b"IEND", b"")]
    chunks = [
        len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big") for kind, data in parts
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def animated() -> bytes:
    buffer = io.BytesIO()
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    frames[0].save(buffer, "WEBP", save_all=True, append_images=frames[1:])
    return buffer.getvalue()


def floats() -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.zeros((8, 8), np.float32)).save(buffer, "TIFF")
    return buffer.getvalue()


def gif() -> bytes:
    buffer = io.BytesIO()
    Image.new("P", (8, 8)).save(buffer, "GIF")
    return buffer.getvalue()


FORM = {"content-type": "multipart/form-data; boundary=x"}
JSON = {"content-type": "application/json"}
UNNAMED = b"--x\r\nContent-Disposition: form-data\r\n\r\n1\r\n--x--\r\n"
MARK = f"/v1/verdicts/{'0' * 32}/mark"
THRESHOLD = "/v1/models/nut/threshold"
BAD_INPUT: list[tuple[str, str, dict[str, Any], int, str]] = [
    ("POST", PREDICT, {"content": b""}, 400, "no image"),
    ("POST", PREDICT, {"content": b"a text"}, 415, "not an image"),
    ("POST", PREDICT, {"content": b"\0" * 1000}, 415, "not an image"),
    ("POST", PREDICT, {"content": bomb()}, 413, "more than 1 megapixels"),
    ("POST", PREDICT, {"content": picture(64, size=(1001, 1000))}, 413, "more than 1 megapixels"),
    ("POST", PREDICT, {"content": GOOD[:200]}, 422, "truncated"),
    ("POST", PREDICT, {"content": GOOD[:8]}, 415, "not an image"),
    ("POST", PREDICT, {"content": picture(64, "JPEG", (400, 300))[:-2000]}, 422, "truncated"),
    ("POST", PREDICT, {"content": animated()}, 422, "holds 2 images"),
    ("POST", PREDICT, {"content": floats()}, 422, "floating-point"),
    ("POST", PREDICT, {"content": gif()}, 415, "not an image"),
    ("POST", PREDICT, {"content": b"%PDF-1.7 ..."}, 415, "not an image"),
    ("POST", PREDICT, {"content": b"<svg xmlns='http://www.w3.org/2000/svg'/>"}, 415, "not an image"),
    ("POST", PREDICT, {"content": b"%!PS-Adobe-3.0 EPSF-3.0"}, 415, "not an image"),
    ("POST", PREDICT, {"content": b"\0" * (2 * told.MIB + 1)}, 413, "larger than 2 MiB"),
    ("POST", PREDICT, {"content": b"", "headers": {"content-length": "99999999999"}}, 413, "larger than 2 MiB"),
    ("POST", PREDICT, {"content": (b"\0" * 2**18 for _ in range(9))}, 413, "larger than 2 MiB"),
    ("POST", f"{PREDICT}?map=perhaps", {"content": GOOD}, 422, "query.map"),
    ("POST", "/v1/models/bolt/predict", {"content": GOOD}, 404, "no model bolt"),
    ("POST", "/v1/models/..%2f..%2fetc/predict", {"content": GOOD}, 404, ""),
    ("POST", "/v1/models/a b/predict", {"content": GOOD}, 422, "path.name"),
    ("POST", f"/v1/models/{'x' * 200}/predict", {"content": GOOD}, 422, "path.name"),
    ("POST", PREDICT, {"content": b"nonsense", "headers": FORM}, 400, "the form cannot"),
    ("POST", PREDICT, {"content": b"", "headers": FORM}, 400, "no image"),
    ("POST", PREDICT, {"content": GOOD, "headers": {"content-type": "multipart/form-data"}}, 400, "the form cannot"),
    ("POST", PREDICT, {"data": {"field": "value"}, "files": {}}, 415, "not an image"),
    ("POST", PREDICT, {"files": [("f", ("a.png", b""))]}, 400, "empty"),
    ("POST", PREDICT, {"files": [("f", (f"{n}.png", GOOD)) for n in range(5)]}, 400, "Too many files"),
    ("POST", PREDICT, {"content": UNNAMED, "headers": FORM}, 400, "the form cannot be read"),
    ("GET", PREDICT, {}, 405, "Method Not Allowed"),
    ("PUT", PREDICT, {"content": GOOD}, 405, "Method Not Allowed"),
    ("GET", "/nowhere", {}, 404, "Not Found"),
    ("GET", "/page/..%2f..%2fapp.py", {}, 404, ""),
    ("GET", "/page/app.py", {}, 404, "no such file"),
    ("GET", "/docs/files/../../app.py", {}, 404, ""),
    ("GET", "/docs/files/%2e%2e/%2e%2e/__init__.py", {}, 404, ""),
    ("GET", "/v1/models/bolt/verdicts", {}, 404, "no model bolt"),
    ("GET", "/v1/models/nut/verdicts?count=0", {}, 422, "query.count"),
    ("GET", "/v1/models/nut/verdicts?count=100000", {}, 422, "query.count"),
    ("GET", "/v1/models/nut/verdicts?count=many", {}, 422, "query.count"),
    ("GET", f"/v1/models/nut/verdicts/{'0' * 32}/overlay", {}, 404, "no longer kept"),
    ("GET", "/v1/models/nut/verdicts/1;DROP TABLE verdicts/overlay", {}, 422, "identity"),
    ("POST", MARK, {"json": {"false_alarm": True}}, 404, "no such verdict"),
    ("POST", MARK, {"json": {"false_alarm": "perhaps"}}, 422, "false_alarm"),
    ("POST", MARK, {"json": {"false_alarm": True, "more": 1}}, 422, "more"),
    ("POST", MARK, {"json": [1]}, 422, "body"),
    ("POST", MARK, {"content": b"{", "headers": JSON}, 422, "body"),
    ("POST", MARK, {"content": b"[" * 100_000, "headers": JSON}, 400, "parsing the body"),
    ("POST", THRESHOLD, {"json": {"threshold": "high"}}, 422, "threshold"),
    ("POST", THRESHOLD, {"json": {"threshold": 1e300}}, 422, "threshold"),
    ("POST", THRESHOLD, {"content": b'{"threshold": NaN}', "headers": JSON}, 422, "threshold"),
    ("POST", THRESHOLD, {"json": {"threshold": 1, "name": "1"}}, 422, "threshold and name"),
    ("POST", THRESHOLD, {"json": {"name": "../secret"}}, 422, "name"),
    ("POST", THRESHOLD, {"json": {"name": "absent"}}, 409, "no recalibration absent"),
    ("POST", "/v1/models/bolt/threshold", {"json": {"threshold": 1}}, 404, "no model bolt"),
    ("POST", "/v1/models/bolt/reload", {}, 404, "no model bolt"),
    ("POST", PREDICT, {"content": GOOD, "headers": {"origin": "http://elsewhere.example"}}, 403, "another site"),
    ("POST", PREDICT, {"content": GOOD, "headers": {"origin": "null"}}, 403, "another site"),
    ("GET", "/v1/models", {"headers": {"host": "elsewhere.example"}}, 421, "another name"),
]  # fmt: skip


@pytest.mark.parametrize("case", range(len(BAD_INPUT)))
def test_bad_input_has_its_answer(client: TestClient, case: int) -> None:
    method, path, options, status, words = BAD_INPUT[case]
    answer = client.request(method, path, **options)
    assert answer.status_code == status, answer.text
    assert answer.json().keys() == {"error", "remedy"}
    assert words in answer.json()["error"]
    assert "Traceback" not in answer.text
    [sound] = client.post(PREDICT, content=BAD).json()["results"]  # and the service goes on
    assert sound["anomalous"]


def test_there_are_forty_kinds_of_bad_input() -> None:
    assert len({repr(case[:3]) for case in BAD_INPUT}) >= 40
    assert MAX_PIXELS >= 50_000_000  # what `--max-megapixels` allows by default can be decoded


# --- bounds


def test_more_than_the_queue_is_told_to_come_again(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gate, usual = threading.Event(), Engine._read

    def slow(engine: Engine, *words: Any) -> Any:
        gate.wait(10)
        return usual(engine, *words)

    monkeypatch.setattr(Engine, "_read", slow)
    with serving(model) as (service, client), ThreadPoolExecutor(30) as pool:
        running = [pool.submit(client.post, PREDICT, content=BAD) for _ in range(30)]
        refused = wait(lambda: sum(one.done() for one in running) == 26)
        assert refused
        gate.set()
        answers = [one.result() for one in running]
        codes = sorted(one.status_code for one in answers)
        assert codes == [200] * 4 + [429] * 26
        busy = next(one for one in answers if one.status_code == 429)
        assert busy.headers["retry-after"] == "1"
        assert "at most 4 may" in busy.json()["error"]
        assert service.engine.in_flight == 0
        assert client.post(PREDICT, content=GOOD).status_code == 200
        assert "adshift_busy_total 26.0" in client.get("/metrics").text


def test_verdicts_are_kept_up_to_a_number(tmp_path: Path) -> None:
    journal = Journal(tmp_path, [], kept=300, spool=10)
    for number in range(1200):
        journal.add({"id": str(number), "model": "nut"})
    kept = journal.recent("nut", 5000)
    assert 300 <= len(kept) < 600
    assert kept[0]["id"] == "1199"
    journal.close()


def test_rejects_are_kept_up_to_a_number_and_an_age(model: Path, tmp_path: Path) -> None:
    from adshift.deploy.serve.rejects import Rejects

    folder = tmp_path / "rejects"
    with serving(model, outputs=told.Outputs(rejects=folder)) as (_, client):
        client.post(f"{PREDICT}?name=x.png", content=GOOD)
        [one] = client.post(f"{PREDICT}?name=..%2Fx.png", content=BAD).json()["results"]
        [other] = client.post(f"{PREDICT}?name=x.exe", content=BAD).json()["results"]
    assert {path.name for path in folder.iterdir()} == {f"{one['id']}.png", f"{other['id']}.img"}
    assert (folder / f"{one['id']}.png").read_bytes() == BAD
    rejects = Rejects(folder, kept=3, days=1.0)
    for number in range(60):
        rejects.add(f"{number:03}", b"x", "a.png")
    rejects.prune()
    assert len(list(folder.iterdir())) == 3
    old = next(folder.iterdir())
    os.utime(old, (0, 0))
    rejects.prune()
    assert len(list(folder.iterdir())) == 2


# --- tokens


def test_a_token_is_needed_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(told.TOKEN, raising=False)
    assert told.token("127.0.0.1") is told.token("::1") is told.token("localhost") is None
    for host in ("0.0.0.0", "::", "192.168.1.4", "line.example"):
        with pytest.raises(AdshiftError, match=r"other machines could.*\n.*ADSHIFT_TOKEN"):
            told.token(host)
    monkeypatch.setenv(told.TOKEN, "short")
    with pytest.raises(AdshiftError, match="5 characters"):
        told.token("127.0.0.1")
    monkeypatch.setenv(told.TOKEN, "a" * 32)
    assert told.token("0.0.0.0") == "a" * 32


def test_requests_carry_the_token(model: Path) -> None:
    secret = "0123456789abcdef"
    basic = base64.b64encode(f"line:{secret}".encode()).decode()
    with serving(model, token=secret, host="0.0.0.0") as (_, client):
        for path in ("/", "/v1/models", "/metrics", "/docs", "/openapi.json", "/page/page.js"):
            assert client.get(path).status_code == 401, path
        assert client.post(PREDICT, content=BAD).status_code == 401
        for header in (
            "",
            "Bearer",
            "Bearer wrong",
            f"Bearer {secret}x",
            "Basic ???",
            f"Digest {secret}",
            "Bearer \xe9",
        ):
            answer = client.get("/v1/models", headers={"authorization": header.encode("latin-1")})
            assert answer.status_code == 401, header
            assert secret not in answer.text
        assert client.get("/v1/models").headers["www-authenticate"].startswith("Basic")
        for header in (f"Bearer {secret}", f"bearer {secret}", f"Basic {basic}"):
            assert client.get("/v1/models", headers={"authorization": header}).status_code == 200
        assert client.get("/healthz").status_code == client.get("/readyz").status_code == 200


# --- changes without a stop


def test_a_new_threshold_counts_from_the_next_image_on(client: TestClient, model: Path, tmp_path: Path) -> None:
    def verdict() -> tuple[bool, float, str]:
        [one] = client.post(PREDICT, content=BAD).json()["results"]
        return one["anomalous"], one["threshold"], one["threshold_from"]

    assert verdict() == (True, 128.0, "model")
    assert client.post(THRESHOLD, json={"threshold": 230}).json()["threshold"] == 230
    assert verdict() == (False, 230.0, "request")
    for number in range(8):
        (tmp_path / "today").mkdir(exist_ok=True)
        (tmp_path / "today" / f"{number}.png").write_bytes(picture(205 + number))
    monitoring.recalibrate(model, str(tmp_path / "today"), None, 0.2, "today")
    assert client.post(THRESHOLD, json={"name": "today"}).status_code == 200
    anomalous, threshold, origin = verdict()
    assert (anomalous, origin) == (False, "today")
    assert 200 < threshold < 213
    assert client.post(THRESHOLD, json={}).json()["threshold_from"] == "model"
    assert verdict() == (True, 128.0, "model")


def test_a_new_model_is_taken_up_and_a_damaged_one_is_not(client: TestClient, model: Path) -> None:
    [before] = client.post(PREDICT, content=BAD).json()["results"]
    model.write_bytes(model.read_bytes()[:-5])
    answer = client.post("/v1/models/nut/reload")
    assert answer.status_code == 409
    assert "the one before goes on" in answer.json()["error"]
    assert "damaged" in client.get("/v1/models").json()["models"][0]["problem"]
    assert client.post(PREDICT, content=BAD).json()["results"][0]["model_id"] == before["model_id"]
    model.unlink()
    assert client.post("/v1/models/nut/reload").status_code == 409
    plain_model.write(model, threshold=210.0)
    assert client.post("/v1/models/nut/reload").json()["problem"] == ""
    [after] = client.post(PREDICT, content=BAD).json()["results"]
    assert (after["threshold"], after["anomalous"]) == (210.0, False)
    assert after["model_id"] != before["model_id"]


def test_changes_while_images_are_judged(client: TestClient) -> None:
    """Every answer's verdict agrees with the threshold that it names."""
    stop = threading.Event()

    def change() -> None:
        while not stop.is_set():
            for value in (100, 230):
                client.post(THRESHOLD, json={"threshold": value})

    with ThreadPoolExecutor(3) as pool:
        changing = pool.submit(change)
        found = [client.post(PREDICT, content=BAD).json()["results"][0] for _ in range(60)]
        stop.set()
        changing.result()
    assert all(one["anomalous"] == (one["score"] >= one["threshold"]) for one in found)
    assert len({one["threshold"] for one in found}) >= 2


def test_the_drift_verdict_of_the_window(model: Path) -> None:
    with serving(model, drift=40) as (service, client):

        def look(brightness: int, number: int) -> dict[str, Any]:
            for index in range(40):
                data = picture(brightness + index % 9 - 4)
                assert client.post(PREDICT, content=data).status_code == 200
            result: dict[str, Any] = wait(
                lambda: (one := service.engine.drift("nut").result) and one["look"] == number and one
            )
            return result

        assert look(64, 1)["verdict"] == "fine"
        second = look(90, 2)
        assert second["verdict"] == "changed"
        assert second["level"] == pytest.approx(0.05 / 6)  # corrected for the look before it
        assert client.get("/v1/models").json()["models"][0]["drift"]["verdict"] == "changed"
    with serving(model, drift=40) as (service, client):  # looks outlive a restart
        for index in range(40):
            client.post(PREDICT, content=picture(60 + index % 9))
        assert wait(lambda: service.engine.drift("nut").result)["look"] == 3


# --- sinks


class Flaky(sinks.Sink):
    """A sink that can be down, and then fails after some of a batch."""

    name = "flaky"

    def __init__(self) -> None:
        self.down, self.got = False, []

    def send(self, records: Any) -> int:
        if self.down:
            raise sinks.UndeliveredError("down")
        taken = max(1, len(records) // 2)
        self.got += [json.loads(record)["id"] for record in records[:taken]]
        return taken


@contextmanager
def engine(model: Path, sink: sinks.Sink, limits: told.Limits = LIMITS) -> Iterator[Engine]:
    one = Engine(told.Settings({"nut": model}, model.parent / "state", limits=limits, drift=0), [sink])
    try:
        yield one
    finally:
        one.end(time.monotonic() + 5)


def test_a_sink_that_is_down_gets_all_in_order_when_it_is_back(model: Path) -> None:
    sink = Flaky()
    with engine(model, sink) as one:
        sent = [one.judge("nut", GOOD, "a", "http")["id"] for _ in range(5)]
        wait(lambda: sink.got == sent)
        sink.down = True
        sent += [one.judge("nut", BAD, "b", "http")["id"] for _ in range(20)]
        wait(lambda: one.senders[0].problem == "down")
        assert one.journal.waiting("flaky") == 20
    with engine(model, sink) as one:  # after a restart too
        assert one.journal.waiting("flaky") == 20
        sink.down = False
        wait(lambda: sink.got == sent)
        assert wait(lambda: not one.journal.waiting("flaky"))
        assert one.senders[0].problem == ""


def test_a_full_spool_is_told_and_accepts_nothing(model: Path) -> None:
    url = "http://127.0.0.1:9/closed"
    with serving(model, outputs=told.Outputs(webhook=url)) as (service, client):
        codes = [client.post(PREDICT, content=GOOD).status_code for _ in range(55)]
        assert codes == [200] * 50 + [429] * 5
        assert "fill the spool" in client.post(PREDICT, content=GOOD).json()["error"]
        assert client.get("/readyz").status_code == 503
        assert client.get("/healthz").status_code == 200
        problems = client.get("/v1/models").json()["problems"]
        assert problems["spool webhook"] == "full: no image is accepted"
        assert problems["sink webhook"]
        assert 'adshift_waiting{sink="webhook"} 50.0' in client.get("/metrics").text
        service.engine.journal.delivered("webhook", 10**9)
        assert client.post(PREDICT, content=GOOD).status_code == 200


def test_lines_and_their_files(tmp_path: Path) -> None:
    sink = sinks.JsonLines(tmp_path / "logs" / "v.jsonl", size=100, files=3)
    for number in range(10):
        assert sink.send([json.dumps({"id": number, "fill": "x" * 90})]) == 1
    names = sorted(path.name for path in (tmp_path / "logs").iterdir())
    assert names == ["v.jsonl", "v.jsonl.1", "v.jsonl.2"]
    kept = [json.loads((tmp_path / "logs" / name).read_text())["id"] for name in names]
    assert kept == [9, 8, 7]


def test_a_full_disk_loses_no_line_and_writes_no_half(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    sink = sinks.JsonLines(tmp_path / "folder", size=100, files=3)
    with pytest.raises(sinks.UndeliveredError, match="Is a directory"):
        sink.send(["{}"])


def test_a_full_disk_under_the_journal(model: Path) -> None:
    with serving(model) as (service, client):
        service.engine.journal._db.execute("PRAGMA max_page_count=1")
        codes = {client.post(PREDICT, content=GOOD).status_code for _ in range(200)}
        assert codes in ({200, 507}, {507})
        assert "make room" in client.post(PREDICT, content=GOOD).json()["remedy"]
        service.engine.journal._db.execute("PRAGMA max_page_count=1000000")
        assert client.post(PREDICT, content=GOOD).status_code == 200


@pytest.mark.parametrize("url", ["", "nowhere", "ftp://x/y", "http://", "file:///etc/passwd"])
def test_webhooks_that_are_none(url: str) -> None:
    with pytest.raises(AdshiftError, match="no URL"):
        sinks.Webhook(url)


@pytest.mark.parametrize(
    "url",
    ["", "mqtt://", "http://x/y", "mqtt://x", "mqtt://x/", "mqtt://x:99999/y", "mqtt://u:secret@x/a+b", "mqtt://x/#"],
)
def test_brokers_that_are_none(url: str) -> None:
    with pytest.raises(AdshiftError, match="no broker") as raised:
        sinks.broker(url)
    assert "secret" not in str(raised.value)
    assert sinks.broker("mqtts://u:p%40@x/a/b")[0] == {
        "host": "x", "port": 8883, "tls": True, "user": "u", "password": "p@"
    }  # fmt: skip


# --- watched folders


def test_a_watched_folder(model: Path, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "before.png").write_bytes(GOOD)
    with serving(model, watch=told.Watch(folder)) as (service, client):
        (folder / "note.txt").write_text("no image")
        (folder / ".hidden.png").write_bytes(GOOD)
        (folder / "damaged.png").write_bytes(GOOD[:100])
        with (folder / "slow.png").open("wb") as file:  # a writer that takes its time
            for part in (BAD[:50], BAD[50:100], BAD[100:]):
                file.write(part)
                file.flush()
                time.sleep(0.3)
        wait(lambda: (folder / "done" / "slow.png").exists() and (folder / "failed" / "damaged.png").exists())
        wait((folder / "done" / "before.png").exists)
        (folder / "slow.png").write_bytes(BAD)  # the same name again
        wait((folder / "done" / "slow-1.png").exists)
        verdicts = client.get("/v1/models/nut/verdicts").json()["verdicts"]
        assert {(one["image"], one["anomalous"], one["source"]) for one in verdicts} == {
            ("before.png", False, "watch"), ("slow.png", True, "watch"),
        }  # fmt: skip
        assert len(verdicts) == 3
        assert (service.watcher.taken, service.watcher.failed) == (3, 1)  # type: ignore[union-attr]
    assert sorted(path.name for path in folder.iterdir()) == [".hidden.png", "done", "failed", "note.txt"]


def test_images_that_are_left_are_judged_once(model: Path, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    for restart in range(2):
        with serving(model, watch=told.Watch(folder, move=False)) as (service, client):
            (folder / f"{restart}.png").write_bytes(GOOD)
            wait(lambda: service.watcher.taken == 1)  # type: ignore[union-attr]
            time.sleep(0.6)
            assert service.watcher.taken == 1  # type: ignore[union-attr]
            assert len(client.get("/v1/models/nut/verdicts").json()["verdicts"]) == restart + 1
    assert sorted(path.name for path in folder.iterdir()) == ["0.png", "1.png"]


def test_a_watched_folder_that_disappears(model: Path, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    with serving(model, watch=told.Watch(folder)) as (_, client):
        assert "No such file" in wait(lambda: client.get("/v1/models").json()["problems"].get("watched folder"))
        folder.mkdir()
        (folder / "a.png").write_bytes(GOOD)
        wait((folder / "done" / "a.png").exists)
        assert "watched folder" not in client.get("/v1/models").json()["problems"]
        shutil.rmtree(folder)
        wait(lambda: client.get("/v1/models").json()["problems"].get("watched folder"))
        folder.mkdir()
        (folder / "b.png").write_bytes(GOOD)
        wait((folder / "done" / "b.png").exists)


# --- start and end


def test_two_services_do_not_share_a_state(model: Path) -> None:
    with serving(model), pytest.raises(AdshiftError, match="another service uses it"):
        Service(told.Settings({"nut": model}, model.parent / "state"))


def test_a_damaged_journal_is_told(tmp_path: Path) -> None:
    (tmp_path / "journal.sqlite").write_bytes(b"no database" * 100)
    with pytest.raises(AdshiftError, match=r"not a readable journal.*\n.*move it away"):
        Journal(tmp_path, [], 10, 10)
    (tmp_path / "journal.sqlite").unlink()
    Journal(tmp_path, [], 10, 10).close()  # and its lock was given back


def test_what_was_accepted_is_answered_at_the_end(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usual = Engine._read

    def slow(engine: Engine, *words: Any) -> Any:
        time.sleep(0.3)
        return usual(engine, *words)

    monkeypatch.setattr(Engine, "_read", slow)
    sink = Flaky()
    with engine(model, sink) as one:
        one.accept(3)
        running = [one.submit("nut", BAD, "a", "http", one_wanted()) for _ in range(3)]
        start = time.monotonic()
    assert [future.result()["anomalous"] for future in running] == [True] * 3
    assert time.monotonic() - start < 5
    journal = Journal(model.parent / "state", ["flaky"], 10, 10)
    assert len(journal.recent("nut", 10)) == 3
    journal.close()


def one_wanted() -> Any:
    from adshift.deploy.serve.engine import Wanted

    return Wanted()


def test_names_of_models(tmp_path: Path) -> None:
    given = [str(tmp_path / "nut.onnx"), str(tmp_path / "carpet" / "clean"), f"zip={tmp_path}/a=b.onnx"]
    assert list(told.named(given)) == ["nut", "carpet", "zip"]
    assert told.named(given)["zip"] == tmp_path / "a=b.onnx"
    with pytest.raises(AdshiftError, match="two models are called nut"):
        told.named([given[0], "nut=other.onnx"])
    with pytest.raises(AdshiftError, match="letters, digits"):
        told.named(["a/b=x.onnx"])
