"""How the runtime speaks http(s): the standard library's client, without the other kinds of URL that it knows."""

from __future__ import annotations

import urllib.request as web
from functools import cache
from http.client import HTTPMessage
from typing import IO
from urllib.error import HTTPError
from urllib.parse import urlsplit


class _Redirects(web.HTTPRedirectHandler):
    """Follows a redirect, but not from https to what anyone on the way can read and change."""

    max_redirections = 5

    def redirect_request(
        self, req: web.Request, fp: IO[bytes], code: int, msg: str, headers: HTTPMessage, newurl: str
    ) -> web.Request | None:
        to = urlsplit(newurl).scheme
        if to != "https" and not (to == "http" and req.type == "http"):
            raise HTTPError(req.full_url, code, f"leads from {req.type} to {to}", headers, fp)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


@cache
def opener() -> web.OpenerDirector:
    """A client for http and https alone, certificates verified, proxies taken from the environment."""
    made = web.OpenerDirector()
    handlers = (
        web.ProxyHandler,
        web.HTTPHandler,
        web.HTTPSHandler,
        web.HTTPDefaultErrorHandler,
        web.HTTPErrorProcessor,
        _Redirects,
    )
    for handler in handlers:
        made.add_handler(handler())
    return made
