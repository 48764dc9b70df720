"""Bodies of requests: read within a size and a time, and taken apart into images."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect, Request

from adshift.deploy.serve.settings import Limits


class BadRequestError(Exception):
    """A request that cannot be answered as it wants: `status`, what is wrong, what to do about it."""

    def __init__(self, status: int, what: str, remedy: str = "") -> None:
        super().__init__(what)
        self.status, self.what, self.remedy = status, what, remedy


async def body(request: Request, limits: Limits) -> bytes:
    """The whole body.

    Raises:
        BadRequestError: it is larger than `limits.body`, or does not arrive within `limits.seconds`.
    """
    length = request.headers.get("content-length", "")
    if length.isascii() and length.isdigit() and int(length) > limits.body:
        raise _large(limits)
    parts, size = [], 0
    try:
        async with asyncio.timeout(limits.seconds):
            async for part in request.stream():
                parts.append(part)
                if (size := size + len(part)) > limits.body:
                    raise _large(limits)
    except TimeoutError:
        raise BadRequestError(
            408, f"the body did not arrive within {limits.seconds:g} s", "send it faster, or --timeout"
        ) from None
    except ClientDisconnect:
        raise BadRequestError(400, "the connection ended within the body", "send it again") from None
    return b"".join(parts)


async def images(request: Request, limits: Limits) -> list[tuple[str, bytes]]:
    """(name, bytes) of the images of a request: the body, or the files of a form.

    Raises:
        BadRequestError: as `body`; no image, too many, or a form that cannot be read.
    """
    data = await body(request, limits)
    kind = request.headers.get("content-type", "").lower()
    if not kind.startswith("multipart/"):
        name = request.query_params.get("name", "image")
        sent = [(name, data)] if data else []
    else:
        sent = await _files(request, data, limits)
    if not sent:
        raise BadRequestError(
            400, "no image in the request", "send an image file as the body, or files in a multipart form"
        )
    return sent


async def _files(request: Request, data: bytes, limits: Limits) -> list[tuple[str, bytes]]:
    async def stream() -> AsyncIterator[bytes]:
        yield data

    parts: Any = stream()
    parser = MultiPartParser(request.headers, parts, max_files=limits.images, max_fields=limits.images,
                             max_part_size=limits.body)  # fmt: skip
    parser.spool_max_size = limits.body + 1  # in memory, never on the disk
    try:
        form = await parser.parse()
        try:
            files = [value for _, value in form.multi_items() if isinstance(value, UploadFile)]
            return [(file.filename or "image", await file.read()) for file in files]
        finally:
            await form.close()
    except (MultiPartException, KeyError, ValueError, UnicodeError) as error:
        message = getattr(error, "message", None) or str(error) or "no boundary"
        raise BadRequestError(
            400, f"the form cannot be read: {message}", "send multipart/form-data with files"
        ) from None


def _large(limits: Limits) -> BadRequestError:
    return BadRequestError(
        413, f"the body is larger than {limits.body / 2**20:g} MiB", "send fewer or smaller images, or --max-mib"
    )
