# SPDX-License-Identifier: Apache-2.0
"""The web page's server: a thread with an event loop of its own."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import socket
import threading
from concurrent.futures import Future, ThreadPoolExecutor

from aiohttp import web

from ssd_ros.web.application import Application, Services
from ssd_ros.web.rules import allowed_names
from ssd_ros.web.streams import Stream

MAX_CONNECTIONS = 128  # more are closed at once: the node needs its file descriptors itself
OPENS_WITHIN = 5.0  # seconds; the host's name may have to be looked up
ENDS_WITHIN = 1.0  # seconds
_LACKING = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)  # the system does not have an address or IPv6
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
        OSError, ValueError: the port is in use, or the host is none of this machine's.
        Exception: aiohttp or a file of the page does not work.
    """

    def __init__(self, host: str, port: int, services: Services) -> None:
        self._services = services
        self._streams: dict[str, Stream] = {}
        self._encoder = ThreadPoolExecutor(1, thread_name_prefix="web-encoder")
        started: Future[int] = Future()
        self._thread = threading.Thread(
            target=self._run, args=(host, port, started), name="web", daemon=True
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

    def _run(self, host: str, port: int, started: Future[int]) -> None:
        try:
            asyncio.run(self._serve(host, port, started))
        except Exception as error:
            if started.done():
                raise
            started.set_exception(error)

    async def _serve(self, host: str, port: int, started: Future[int]) -> None:
        self._loop, self._closing = asyncio.get_running_loop(), asyncio.Event()
        names = allowed_names(host)
        application = Application(self._services, self._streams, names, self._closing).make()
        runner = web.AppRunner(application, access_log=None, logger=_log, handle_signals=False)
        try:
            await runner.setup()
            listeners = await asyncio.wait_for(_listen(host, port), OPENS_WITHIN)
        except Exception as error:
            timed_out = isinstance(error, asyncio.TimeoutError)
            # Not left to _run: asyncio.run waits for a look-up of the host's name.
            started.set_exception(TimeoutError(errno.ETIMEDOUT, host) if timed_out else error)
            with contextlib.suppress(Exception):  # the first error says more
                await runner.cleanup()
            return
        handlers = runner.server
        tasks = [asyncio.create_task(_accept(one, handlers)) for one in listeners]
        started.set_result(listeners[0].getsockname()[1])
        await self._closing.wait()
        for task, listener in zip(tasks, listeners, strict=True):
            task.cancel()
            listener.close()
        await handlers.shutdown(ENDS_WITHIN / 5)  # then connections are closed in mid-answer
        await runner.cleanup()
        self._encoder.shutdown(cancel_futures=True)


async def _listen(host: str, port: int) -> list[socket.socket]:
    """A socket for each address of a host; without those that the system lacks (IPv6, say)."""
    loop = asyncio.get_running_loop()
    infos = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    listeners: list[socket.socket] = []
    failed: OSError | None = None
    for family, _, _, _, address in dict.fromkeys(infos):  # /etc/hosts may name one twice
        try:
            listeners.append(socket.create_server(address, family=family))
            listeners[-1].setblocking(False)
        except OSError as error:
            if failed is None or failed.errno in _LACKING:
                failed = error
    if failed is not None and (not listeners or failed.errno not in _LACKING):
        for listener in listeners:
            listener.close()
        raise failed
    return listeners


async def _accept(listener: socket.socket, handlers: web.Server) -> None:
    """Accepts connections one by one, unlike asyncio's server, so that the limit is exact."""
    loop = asyncio.get_running_loop()
    while True:
        try:
            connection, _ = await loop.sock_accept(listener)
            if len(handlers.connections) >= MAX_CONNECTIONS:
                connection.close()
            else:
                await loop.connect_accepted_socket(handlers, connection)
        except OSError:  # too many open files, or the client is gone
            await asyncio.sleep(0.1)
