# SPDX-License-Identifier: Apache-2.0
"""The web page's server: a thread with an event loop of its own."""

from __future__ import annotations

import asyncio
import logging
import threading
from concurrent.futures import Future, ThreadPoolExecutor

from aiohttp import web

from ssd_ros.web.application import Application, Services
from ssd_ros.web.rules import allowed_names
from ssd_ros.web.streams import Stream

MAX_CONNECTIONS = 128  # more are closed at once: the node needs its file descriptors itself
ENDS_WITHIN = 1.0  # seconds
_log = logging.getLogger(__name__)  # of aiohttp; what the node should know is in Services.report
_log.addHandler(logging.NullHandler())
_log.propagate = False


class WebServer:
    """Serves the page until it is closed.

    Args:
        host: address or name to listen on.
        port: TCP port; 0 for any that is free.
        services: what the page needs from the node.

    Attributes:
        port: that it listens on.

    Raises:
        OSError: the port is in use, or the host is none of this machine's.
    """

    def __init__(self, host: str, port: int, services: Services) -> None:
        self._services = services
        self._streams: dict[str, Stream] = {}
        self._encoder = ThreadPoolExecutor(1, thread_name_prefix="web-encoder")
        started: Future[int] = Future()
        self._thread = threading.Thread(
            target=lambda: asyncio.run(self._serve(host, port, started)), name="web", daemon=True
        )
        self._thread.start()
        self.port = started.result()

    def stream(self, topic: str) -> Stream:
        """The stream of an image topic, from now on."""
        if topic not in self._streams:
            self._streams[topic] = Stream(self._loop, self._encoder, self._services.report)
        return self._streams[topic]

    def close(self) -> None:
        """Closes all connections and ends the thread; may be called again."""
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._closing.set)
            self._thread.join(ENDS_WITHIN)

    async def _serve(self, host: str, port: int, started: Future[int]) -> None:
        self._loop, self._closing = asyncio.get_running_loop(), asyncio.Event()
        names = allowed_names(host)
        application = Application(self._services, self._streams, names, self._closing).make()
        runner = web.AppRunner(application, access_log=None, logger=_log, handle_signals=False)
        try:
            await runner.setup()
            handlers = runner.server
            assert handlers is not None

            def accept() -> asyncio.Protocol:
                full = len(handlers.connections) >= MAX_CONNECTIONS
                return _Refused() if full else handlers()

            server = await self._loop.create_server(accept, host, port)
        except Exception as error:
            await runner.cleanup()
            started.set_exception(error)
            return
        started.set_result(server.sockets[0].getsockname()[1])
        await self._closing.wait()
        server.close()
        await handlers.shutdown(ENDS_WITHIN / 5)  # then connections are closed in mid-answer
        await runner.cleanup()
        self._encoder.shutdown(cancel_futures=True)


class _Refused(asyncio.Protocol):
    """A connection that is closed as soon as it is made."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport.close()
