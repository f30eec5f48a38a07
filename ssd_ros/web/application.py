# SPDX-License-Identifier: Apache-2.0
"""The web page's requests: the page itself, its state, the images, and changes of parameters."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import socket
from collections.abc import Awaitable, Callable, Collection, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aiohttp import web

from ssd_ros.web import rules
from ssd_ros.web.streams import Stream

MAX_VIEWERS = 32  # streams of all cameras together
MAX_CHANGES = 8  # requests for changes at the same time
MAX_BODY = 2**16  # bytes
CHANGE_TIMEOUT = 15.0  # seconds that a change may take, as while the node loads weights
SILENCE = 2.0  # seconds without an image after which it is checked whether the viewer is there
STALLED = 20.0  # seconds that a viewer may take for one image
SEND_BUFFER = 2**18  # bytes in the kernel: with more, a slow viewer would see old images
BOUNDARY = "image"
PAGE = Path(__file__).with_name("page.html")
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(frozen=True)
class Services:
    """What the page needs from the node; each may be called from any thread and returns at once.

    Attributes:
        state: what the page shows beside the images, see `PageState.to_dict`.
        change: sets parameters; the result is why they were refused, empty if they were not.
        report: gets a text about what failed.
    """

    state: Callable[[], Mapping[str, Any]]
    change: Callable[[Mapping[str, Any]], Future[str]]
    report: Callable[[str], None]


class Application:
    """Answers requests.

    Args:
        services: see there.
        streams: by image topic; may grow.
        names: see `rules.refusal`.
        closing: set once the server ends.
    """

    def __init__(
        self,
        services: Services,
        streams: Mapping[str, Stream],
        names: Collection[str],
        closing: asyncio.Event,
    ) -> None:
        self._services = services
        self._streams = streams
        self._names = names
        self._closing = closing
        self._page = PAGE.read_text("utf-8")
        self._headers = security_headers(self._page)
        self._changes = 0

    def make(self) -> web.Application:
        """aiohttp's object."""
        application = web.Application(middlewares=[self._guard], client_max_size=MAX_BODY)
        application.on_response_prepare.append(self._add_headers)
        application.router.add_get("/", self._on_page)
        application.router.add_get("/state", self._on_state, allow_head=False)
        application.router.add_get("/stream{topic:/.+}", self._on_stream, allow_head=False)
        application.router.add_post("/parameters", self._on_parameters)
        return application

    @web.middleware
    async def _guard(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Refuses requests of other sites' pages, and answers when a handler fails."""
        reason = rules.refusal(request.method, request.headers, self._names)
        if reason:
            return web.Response(status=403, text=f"refused: {reason}\n")
        try:
            return await handler(request)
        except (web.HTTPException, ConnectionError):
            raise
        except Exception as error:
            self._services.report(f"the web page's {request.path[:100]} failed: {error!r}")
            return web.Response(status=500, text="failed; the node's log says why\n")

    async def _add_headers(self, request: web.Request, response: web.StreamResponse) -> None:
        response.headers.update(self._headers)

    async def _on_page(self, request: web.Request) -> web.Response:
        return web.Response(text=self._page, content_type="text/html", charset="utf-8")

    async def _on_state(self, request: web.Request) -> web.Response:
        return _json(self._services.state())

    async def _on_parameters(self, request: web.Request) -> web.Response:
        if request.content_type != "application/json":
            return _json({"reason": "Content-Type must be application/json"}, 415)
        if self._changes >= MAX_CHANGES:
            return _json({"reason": "too many changes at the same time"}, 503)
        self._changes += 1
        try:
            body = await asyncio.wait_for(request.read(), CHANGE_TIMEOUT)
            change = self._services.change(rules.parse_change(body))
            reason = await asyncio.wait_for(asyncio.wrap_future(change), CHANGE_TIMEOUT)
        except ValueError as error:
            return _json({"reason": str(error)}, 400)
        except asyncio.TimeoutError:  # the change is cancelled with it, unless it has begun
            return _json({"reason": f"no answer within {CHANGE_TIMEOUT:g} s"}, 504)
        finally:
            self._changes -= 1
        return _json({"reason": reason}, 409 if reason else 200)

    async def _on_stream(self, request: web.Request) -> web.StreamResponse:
        """An image after the other, as long as the viewer is there."""
        stream = self._streams.get(request.match_info["topic"])
        if stream is None:
            raise web.HTTPNotFound(text="no such image topic\n")
        if sum(one.viewers for one in list(self._streams.values())) >= MAX_VIEWERS:
            return web.Response(status=503, text=f"{MAX_VIEWERS} viewers already\n")
        kind = f"multipart/x-mixed-replace; boundary={BOUNDARY}"
        response = web.StreamResponse(headers={"Content-Type": kind})
        with stream.viewing():
            await response.prepare(request)
            _limit_buffer(request)
            await response.write(f"--{BOUNDARY}\r\n".encode())
            number = 0
            while not (self._closing.is_set() or _is_gone(request)):
                number, jpeg = await stream.next(number, SILENCE)
                if not jpeg:
                    continue
                try:
                    await asyncio.wait_for(response.write(_part(jpeg)), STALLED)
                except asyncio.TimeoutError:
                    if request.transport is not None:
                        request.transport.abort()
                    break
        return response


def security_headers(page: str) -> dict[str, str]:
    """Headers of all answers: browsers run the page's own script only, and embed nothing of it."""
    script, style = (_hash(page, tag) for tag in ("script", "style"))
    policy = (
        f"default-src 'none'; script-src '{script}'; style-src '{style}'; img-src 'self' data:; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    return {
        "Content-Security-Policy": policy,
        "Cross-Origin-Resource-Policy": "same-origin",
        "Referrer-Policy": "no-referrer",
        "X-Content-Type-Options": "nosniff",
        "Cache-Control": "no-store",
    }


def _hash(page: str, tag: str) -> str:
    """What a policy calls the content of the page's one element of a name."""
    content = page.partition(f"<{tag}>")[2].partition(f"</{tag}>")[0]
    return "sha256-" + base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()


def _json(content: Mapping[str, Any], status: int = 200) -> web.Response:
    return web.Response(body=rules.as_json(content), status=status, content_type="application/json")


def _part(jpeg: bytes) -> bytes:
    # The boundary follows each image: browsers show an image only when they see its end.
    head = f"Content-Type: image/jpeg\r\nContent-Length: {len(jpeg)}\r\n\r\n"
    return b"%b%b\r\n--%b\r\n" % (head.encode(), jpeg, BOUNDARY.encode())


def _is_gone(request: web.Request) -> bool:
    return request.transport is None or request.transport.is_closing()


def _limit_buffer(request: web.Request) -> None:
    connection = request.transport and request.transport.get_extra_info("socket")
    if connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
