# SPDX-License-Identifier: Apache-2.0
"""A local HTTP server of one file, which can break off, hold back and lie."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class FileServer:
    """What is served, and what was asked for.

    Attributes:
        data: the file.
        requests: the `Range` of each request so far, None for the whole file.
        cuts: after how many bytes the connection of the first, second, … request breaks.
        ranges: whether parts can be asked for.
        status: of the answers, where it is not 200 or 206.
        length: announced instead of the true one.
        half_sent: set when half of a held answer is sent.
        released: while it is not set, answers stop at their half.
    """

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.requests: list[str | None] = []
        self.cuts: list[int] = []
        self.ranges = True
        self.status = 0
        self.length = 0
        self.half_sent, self.released = threading.Event(), threading.Event()
        self.released.set()

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        asked = handler.headers["Range"]
        self.requests.append(asked)
        start = int(asked.removeprefix("bytes=").rstrip("-")) if asked and self.ranges else 0
        part = self.data[start:]
        partial = 206 if part else 416
        handler.send_response(self.status or (partial if start else 200))
        handler.send_header("Content-Length", str(self.length or len(part)))
        if start:
            handler.send_header("Content-Range", f"bytes {start}-{len(self.data)}/*")
        handler.end_headers()
        part = part[: self.cuts.pop(0)] if self.cuts else part
        handler.wfile.write(part[: len(part) // 2])
        if not self.released.is_set():
            self.half_sent.set()
            self.released.wait()
        handler.wfile.write(part[len(part) // 2 :])


class _Server(ThreadingHTTPServer):
    def handle_error(self, request: object, client_address: object) -> None:
        pass  # a client that is gone


@contextmanager
def serve(data: bytes) -> Iterator[tuple[FileServer, str]]:
    """The server, and the URL of its file."""
    served = FileServer(data)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            served.answer(self)

        def log_message(self, *arguments: object) -> None:
            pass

    server = _Server(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield served, f"http://127.0.0.1:{server.server_port}/w.safetensors"
    finally:
        served.released.set()
        server.shutdown()
        thread.join()
        server.server_close()
