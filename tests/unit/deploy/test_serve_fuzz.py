"""The API's schema, fuzzed: whatever a request holds, the answer is documented, and no request ends in a 500."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.testclient import TestClient

import plain_model
from adshift.deploy.serve import settings as told
from adshift.deploy.serve.service import Service

ANSWERS = {200, 400, 403, 404, 405, 408, 409, 413, 415, 421, 422}
USUAL = st.sampled_from(["nut", "0" * 32, "..", "%00", "a b"])
WORDS = st.one_of(USUAL, st.text(max_size=40), st.from_regex(r"[\w.-]{1,9}"))
VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=30), st.just("today")),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3), max_leaves=8,
)  # fmt: skip
FIELDS = st.dictionaries(st.sampled_from(["threshold", "name", "false_alarm", "more"]), VALUES, max_size=3)
QUERIES = st.dictionaries(st.sampled_from(["map", "mask", "overlay", "count", "name", "x"]), WORDS, max_size=3)
GOOD, BAD = plain_model.picture(64), plain_model.picture(200)
BODIES = st.one_of(st.binary(max_size=300), st.just(BAD), st.binary(max_size=40).map(lambda end: GOOD[:-40] + end))
FORMS = ["multipart/form-data; boundary=x", "multipart/x"]
KINDS = st.sampled_from(["", "image/png", "application/json", "text/plain", *FORMS])


def quoted(word: str) -> str:
    from urllib.parse import quote

    return quote(word.encode("utf-8", "replace").decode(), safe="")


def test_no_request_ends_in_a_500(tmp_path: Path) -> None:
    limits = told.Limits(body=2**16, pixels=10**6, images=4, queue=4, seconds=2.0)
    model = plain_model.write(tmp_path / "nut.onnx")
    service = Service(told.Settings({"nut": model}, tmp_path / "state", limits=limits, drift=5))
    with TestClient(service.app, "http://127.0.0.1:8765", raise_server_exceptions=False) as client:
        schema = client.get("/openapi.json").json()
        operations = [(path, method) for path, methods in schema["paths"].items() for method in methods]
        assert len(operations) >= 10
        codes = set()

        @settings(max_examples=250, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
        @given(st.sampled_from(operations), WORDS, WORDS, QUERIES, BODIES, FIELDS, KINDS, st.booleans(), st.booleans())
        def request(
            operation: tuple[str, str], name: str, identity: str, query: dict[str, str], body: bytes, fields: Any,
            kind: str, as_json: bool, known: bool,
        ) -> None:  # fmt: skip
            path, method = operation
            path = path.replace("{name}", "nut" if known else quoted(name)).replace("{identity}", quoted(identity))
            sent: dict[str, Any] = {"content": body, "headers": {"content-type": kind}}
            sent = {"json": fields} if as_json else sent
            try:
                answer = client.request(method, path, params=query, **sent)
            except (ValueError, UnicodeError):  # the client cannot send it: NaN in JSON
                return
            assert answer.status_code in ANSWERS, (method, path, answer.text)
            codes.add(answer.status_code)
            if answer.status_code >= 400:
                assert answer.json().keys() == {"error", "remedy"}
            assert client.get("/healthz").status_code == 200

        request()
        assert codes >= {200, 404, 422}
        [one] = client.post("/v1/models/nut/predict", content=BAD).json()["results"]
        assert one["score"] == pytest.approx(200, abs=1)
