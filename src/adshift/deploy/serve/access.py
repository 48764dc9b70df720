"""Who may ask: a token, and no pages of other sites."""

import base64
import binascii
import hmac
from urllib.parse import urlsplit

from starlette.datastructures import Headers

from adshift.deploy.serve.settings import loopback

OPEN = ("/healthz", "/readyz")  # for whoever watches the service
SAFE = ("GET", "HEAD")


def refusal(method: str, path: str, headers: Headers, token: str | None, host: str) -> tuple[int, str] | None:
    """Status and reason if a request is refused; None if it may be answered.

    Args:
        method, path, headers: of the request.
        token: that it must carry: `Authorization: Bearer TOKEN`, or Basic with any user, which browsers ask for.
        host: that the service is bound to.
    """
    if path in OPEN:
        return None
    named = (urlsplit(f"//{headers.get('host', '')}").hostname or "").lower()
    if loopback(host) and token is None and not loopback(named):
        return 421, "addressed by another name than this machine's own"  # another site's name that leads here
    origin = headers.get("origin")
    if method not in SAFE and origin and urlsplit(origin).netloc.lower() != headers.get("host", "").lower():
        return 403, "sent by a page of another site"
    if token is not None and not _carries(headers.get("authorization", ""), token):
        return 401, "no token, or a wrong one"
    return None


def _carries(header: str, token: str) -> bool:
    kind, _, value = header.partition(" ")
    given = value.strip()
    if kind.lower() == "basic":
        try:
            given = base64.b64decode(given, validate=True).decode().partition(":")[2]
        except (binascii.Error, UnicodeError):
            return False
    elif kind.lower() != "bearer":
        return False
    return hmac.compare_digest(given.encode(), token.encode())
