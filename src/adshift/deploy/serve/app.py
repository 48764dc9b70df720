"""The HTTP side of the service: requests, their checks, and the page."""

import asyncio
import math
from collections.abc import Awaitable, Callable
from importlib.resources import files as resources
from typing import Annotated, Any

from fastapi import FastAPI, Path, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.responses import HTMLResponse, JSONResponse, Response
from fastapi.staticfiles import StaticFiles
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException

from adshift import __version__
from adshift.deploy.serve import access, requests
from adshift.deploy.serve.engine import BusyError, Engine, RefusedError, Wanted, png, seen
from adshift.deploy.serve.requests import BadRequestError
from adshift.errors import AdshiftError
from adshift.evaluation.threshold_file import LARGEST

POLICY = (
    "default-src 'self'; img-src 'self' data: blob:; style-src 'self' 'unsafe-inline'; "
    "script-src 'self' 'unsafe-inline'; frame-ancestors 'none'"
)
HEADERS = {
    "X-Content-Type-Options": "nosniff", "Content-Security-Policy": POLICY, "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}  # fmt: skip
RETRY = "1"  # seconds
PAGE = ("page.html", "page.css", "page.js")

Name = Annotated[str, Path(pattern=r"^[A-Za-z0-9_.-]{1,100}$")]
Identity = Annotated[str, Path(pattern=r"^[0-9a-f]{32}$")]


class NewThreshold(BaseModel):
    """A number, the NAME of a recalibration, or neither for the model's own."""

    model_config = ConfigDict(extra="forbid")
    threshold: float | None = Field(default=None, ge=-LARGEST, le=LARGEST)
    name: str | None = Field(default=None, pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")


class Mark(BaseModel):
    """What the operator says of a verdict."""

    model_config = ConfigDict(extra="forbid")
    false_alarm: bool


def application(engine: Engine, problems: Callable[[], dict[str, str]]) -> FastAPI:
    """The application.

    Args:
        engine: judges.
        problems: what keeps inputs and sinks from working, by name.
    """
    app = FastAPI(title="adshift", version=__version__, docs_url=None, redoc_url=None)
    app.openapi_version = "3.0.3"  # the newest that the bundled page at /docs shows
    _errors(app)
    _guard(app, engine)
    _judging(app, engine)
    _changing(app, engine)
    _telling(app, engine, problems)
    _pages(app)
    return app


def _guard(app: FastAPI, engine: Engine) -> None:
    settings = engine.settings

    @app.middleware("http")
    async def guard(request: Request, call: Callable[[Request], Awaitable[Response]]) -> Response:
        refused = access.refusal(request.method, request.url.path, request.headers, settings.token, settings.host)
        if refused:
            status, reason = refused
            answer: Response = _failure(status, reason, "Authorization: Bearer TOKEN" if status == 401 else "")
            if status == 401:
                answer.headers["WWW-Authenticate"] = 'Basic realm="adshift"'
        else:
            answer = await call(request)
        answer.headers.update(HEADERS)
        return answer


def _failure(status: int, what: str, remedy: str = "") -> JSONResponse:
    return JSONResponse({"error": what, "remedy": remedy}, status)


def _errors(app: FastAPI) -> None:
    """Every failure is answered as {"error", "remedy"}."""

    @app.exception_handler(BadRequestError)
    async def bad(_: Request, error: BadRequestError) -> Response:
        return _failure(error.status, error.what, error.remedy)

    @app.exception_handler(AdshiftError)
    async def refused(_: Request, error: AdshiftError) -> Response:
        return _failure(error.status if isinstance(error, RefusedError) else 507, error.what, error.remedy)

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> Response:
        parts = [f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors()]
        return _failure(422, "; ".join(parts)[:500], "see /docs")

    @app.exception_handler(HTTPException)
    async def http(_: Request, error: HTTPException) -> Response:
        answer = _failure(error.status_code, str(error.detail), "see /docs")
        answer.headers.update(error.headers or {})
        return answer

    @app.exception_handler(BusyError)
    async def busy(_: Request, error: BusyError) -> Response:
        answer = _failure(429, str(error), f"send it again after {RETRY} s")
        answer.headers["Retry-After"] = RETRY
        return answer


def _known(engine: Engine, name: str) -> None:
    if name not in engine.served:
        raise BadRequestError(404, f"no model {name}", f"there are {', '.join(engine.served)}")


def _judging(app: FastAPI, engine: Engine) -> None:
    limits = engine.settings.limits

    @app.post("/v1/models/{name}/predict", openapi_extra=_BODY)
    async def predict(
        request: Request, name: Name, map: bool = False, mask: bool = False, overlay: bool = False
    ) -> dict[str, Any]:
        """Judge images: the body is an image file, or a form with files. Pictures are PNG in base64, if asked for."""
        _known(engine, name)
        try:
            engine.accept(0)  # told before the body is read
            images = await requests.images(request, limits)
            engine.accept(len(images))
        except BusyError:
            engine.measured.busy()
            raise
        wanted = Wanted(map=map, mask=mask, overlay=overlay)
        running = [asyncio.wrap_future(engine.submit(name, data, file, "http", wanted)) for file, data in images]
        done = await asyncio.shield(asyncio.gather(*running, return_exceptions=True))
        if len(done) == 1 and isinstance(done[0], BaseException):
            raise done[0]
        return {"model": name, "results": [_shown(one, file) for one, (file, _) in zip(done, images, strict=True)]}


def _shown(one: Any, file: str) -> dict[str, Any]:
    """A verdict, or the error of one image among several."""
    if isinstance(one, AdshiftError):
        return {"image": file, "error": one.what, "remedy": one.remedy}
    if isinstance(one, BaseException):
        raise one
    verdict: dict[str, Any] = one
    return verdict


def _changing(app: FastAPI, engine: Engine) -> None:
    @app.post("/v1/models/{name}/reload")
    async def reload(name: Name) -> dict[str, Any]:
        """Take up the model that lies on the disk now. If it is damaged, the one before goes on."""
        _known(engine, name)
        return await _changed(engine, name, engine.served[name].reload)

    @app.post("/v1/models/{name}/threshold")
    async def threshold(name: Name, new: NewThreshold) -> dict[str, Any]:
        """Judge by another threshold from the next image on."""
        _known(engine, name)
        if new.threshold is not None and (new.name is not None or not math.isfinite(new.threshold)):
            raise BadRequestError(422, "threshold and name", "give one of them")
        return await _changed(engine, name, lambda: engine.served[name].set_threshold(new.threshold, new.name))

    @app.post("/v1/verdicts/{identity}/mark")
    async def mark(identity: Identity, said: Mark) -> dict[str, Any]:
        """Note that a rejected part was good, or take it back."""
        if not await asyncio.to_thread(engine.journal.mark, identity, said.false_alarm):
            raise BadRequestError(404, "no such verdict, or it is no longer kept", "")
        return {"id": identity, "false_alarm": said.false_alarm}


async def _changed(engine: Engine, name: str, change: Callable[[], None]) -> dict[str, Any]:
    try:
        await asyncio.to_thread(change)
    except AdshiftError as error:
        raise BadRequestError(409, f"{error.what}; the one before goes on", error.remedy) from None
    return _about(engine, name)


def _about(engine: Engine, name: str) -> dict[str, Any]:
    served, drift = engine.served[name], engine.drift(name)
    current, (waiting, wanted) = served.current, drift.waiting
    return {
        "name": name, "method": current.model.method, "model_id": current.identity,
        "threshold": current.model.threshold, "threshold_from": current.origin, "problem": served.problem,
        "drift": drift.result, "drift_window": [waiting, wanted],
    }  # fmt: skip


def _telling(app: FastAPI, engine: Engine, problems: Callable[[], dict[str, str]]) -> None:
    @app.get("/v1/models")
    def models() -> dict[str, Any]:
        """What is served, and what keeps inputs and sinks from working."""
        return {"models": [_about(engine, name) for name in engine.served], "problems": problems(),
                "in_flight": engine.in_flight}  # fmt: skip

    @app.get("/v1/models/{name}/verdicts")
    def verdicts(name: Name, count: Annotated[int, Query(ge=1, le=1000)] = 50) -> dict[str, Any]:
        """The last verdicts, newest first."""
        _known(engine, name)
        return {"verdicts": engine.journal.recent(name, count)}

    @app.get("/v1/models/{name}/verdicts/{identity}/overlay")
    def overlay(name: Name, identity: Identity) -> Response:
        """The picture of one of the last images, as PNG."""
        _known(engine, name)
        if (recent := engine.picture(name, identity)) is None:
            raise BadRequestError(404, "its picture is no longer kept", "")
        return Response(png(seen(recent.prediction, recent.pixels)), media_type="image/png")

    @app.get("/metrics")
    def metrics() -> Response:
        """Figures for Prometheus."""
        return Response(engine.measured.text(), media_type="text/plain; version=0.0.4; charset=utf-8")

    @app.get("/healthz")
    async def healthz() -> dict[str, str]:
        """The service runs."""
        return {"status": "ok"}

    @app.get("/readyz")
    async def readyz() -> Response:
        """Images are accepted."""
        full = engine.journal.full
        if engine.ending or full:
            return _failure(503, f"full spool: {', '.join(full)}" if full else "the service ends")
        return JSONResponse({"status": "ready"})


def _pages(app: FastAPI) -> None:
    import swagger_ui_bundle

    folder = resources("adshift.deploy.serve")
    texts = {file: (folder / file).read_text(encoding="utf-8") for file in PAGE}
    kinds = {"html": "text/html", "css": "text/css", "js": "text/javascript"}

    @app.get("/", include_in_schema=False)
    async def page() -> Response:
        return Response(texts["page.html"], media_type="text/html")

    @app.get("/page/{file}", include_in_schema=False)
    async def part(file: str) -> Response:
        if file not in texts:
            raise BadRequestError(404, "no such file")
        return Response(texts[file], media_type=kinds[file.rpartition(".")[2]])

    @app.get("/docs", include_in_schema=False)
    async def docs() -> HTMLResponse:
        return get_swagger_ui_html(
            openapi_url="/openapi.json", title="adshift", swagger_js_url="/docs/files/swagger-ui-bundle.js",
            swagger_css_url="/docs/files/swagger-ui.css", swagger_favicon_url="/docs/files/favicon-32x32.png",
        )  # fmt: skip

    app.mount("/docs/files", StaticFiles(directory=str(swagger_ui_bundle.swagger_ui_path)))


_FILE = {"type": "string", "format": "binary"}
_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/octet-stream": {"schema": _FILE},
            "multipart/form-data": {
                "schema": {"type": "object", "properties": {"files": {"type": "array", "items": _FILE}}}
            },
        },
    }
}
