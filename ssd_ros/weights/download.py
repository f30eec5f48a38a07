# SPDX-License-Identifier: Apache-2.0
"""Downloads a file once, for all processes; with the standard library alone.

The file grows under the name NAME.part, which the process that downloads it has locked; an
interrupted download is continued from there by whoever comes next. It gets its name when it is
complete and has the expected hash.
"""

from __future__ import annotations

import fcntl
import hashlib
import http.client
import os
import re
import shutil
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, NamedTuple

TIMEOUT = 20.0  # seconds to wait for a connection, and for the next bytes
_ATTEMPTS = 3  # in succession without receiving anything
_PAUSE = 1.0  # seconds between two attempts
_CHUNK = 1 << 18
_LARGEST = 1 << 31  # bytes


class Progress(NamedTuple):
    """How far a download is: bytes received and bytes in all, None where the server does not say;
    `waiting` while another process downloads the file."""

    done: int = 0
    total: int | None = None
    waiting: bool = False

    def __str__(self) -> str:
        if self.waiting:
            return "another process is downloading it"
        of = f" of {self.total / 1e6:.0f}" if self.total else ""
        return f"{self.done / 1e6:.0f}{of} MB"


class DownloadError(Exception):
    """A download that failed; the message is the reason."""


class _NetworkError(Exception):
    """A request that failed, with the status of the answer if there was one."""

    def __init__(self, reason: str, status: int = 0) -> None:
        super().__init__(reason)
        self.status = status


class Download(NamedTuple):
    """What to download, and how to follow it.

    Attributes:
        url: of the file.
        target: where it is to be.
        sha256: the first digits of its SHA-256.
        report: called often, with the progress.
        stopped: asked often; where it returns True, the download ends with a DownloadError.
    """

    url: str
    target: Path
    sha256: str
    report: Callable[[Progress], object] = lambda progress: None
    stopped: Callable[[], bool] = lambda: False


def fetch(download: Download) -> None:
    """Downloads a file, unless it is there.

    Raises:
        DownloadError: the server cannot be reached or refuses, the connection breaks again and
            again, the hash differs, or the file cannot be written.
    """
    folder = download.target.parent
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _lock(download) as file:
            if file is None:
                return
            resumed = file.seek(0, os.SEEK_END) > 0
            _receive(download, file)
            if resumed and not _digest(download, file).startswith(download.sha256):
                file.truncate(0)  # it was continued with bytes of another file
                _receive(download, file)
            _check(download, file)
            os.replace(_part(download), download.target)
    except OSError as error:
        raise DownloadError(f"cannot write in '{folder}': {error.strerror or error}") from None


def _part(download: Download) -> Path:
    return download.target.with_name(f"{download.target.name}.part")


@contextmanager
def _lock(download: Download) -> Iterator[BinaryIO | None]:
    """The locked, partly downloaded file; None once the target is there."""
    part = _part(download)
    while not download.target.exists():
        with part.open("a+b") as file:
            if not _try_to_lock(file):
                download.report(Progress(waiting=True))
                _wait(download, 0.2)
            elif download.target.exists():  # meanwhile; what was opened may be a new, empty file
                part.unlink(missing_ok=True)
            elif part.exists() and os.path.samestat(os.fstat(file.fileno()), part.stat()):
                yield file
                return
    yield None


def _try_to_lock(file: BinaryIO) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # a file system without locks: two downloads at once would be noticed
        return True
    return True


def _receive(download: Download, file: BinaryIO) -> None:
    """Appends what is missing; tries again while anything arrives."""
    attempts = 0
    while True:
        before = file.seek(0, os.SEEK_END)
        try:
            return _request(download, file, before)
        except _NetworkError as error:
            attempts = attempts + 1 if file.seek(0, os.SEEK_END) <= before else 1
            if error.status == 416:  # nothing is missing, or it is another file: the hash tells
                return None
            if attempts >= _ATTEMPTS or 400 <= error.status < 500:
                raise DownloadError(str(error)) from None
        _wait(download, _PAUSE)


def _request(download: Download, file: BinaryIO, done: int) -> None:
    """One request for all after the first `done` bytes, which the file has."""
    request = urllib.request.Request(download.url, headers={"User-Agent": "ssd_ros"})
    if done:
        request.add_header("Range", f"bytes={done}-")
    with _network():
        response = urllib.request.urlopen(request, timeout=TIMEOUT)
    with response:
        if done and not response.headers.get("Content-Range", "").startswith(f"bytes {done}-"):
            file.truncate(0)  # the server sends the whole file
            done = 0
        length = response.headers.get("Content-Length", "")
        total = done + int(length) if re.fullmatch("[0-9]{1,18}", length) else None
        _check_space(download, done, total)
        while chunk := _read(response):
            file.write(chunk)
            done += len(chunk)
            download.report(Progress(done, total))
            if done > _LARGEST:
                raise DownloadError(f"the server sends more than {_LARGEST} bytes")
            _wait(download, 0)
    file.flush()
    if total is not None and done < total:
        raise _NetworkError(f"the connection broke after {done} of {total} bytes")


def _read(response: http.client.HTTPResponse) -> bytes:
    with _network():
        try:
            return response.read(_CHUNK)
        except http.client.IncompleteRead as error:  # since Python 3.13
            return error.partial


def _check_space(download: Download, done: int, total: int | None) -> None:
    free = shutil.disk_usage(download.target.parent).free
    if total is not None and total - done > free:
        raise DownloadError(
            f"no space in '{download.target.parent}': {(total - done) / 1e6:.0f} MB are needed, "
            f"{free / 1e6:.0f} MB are free"
        )


def _check(download: Download, file: BinaryIO) -> None:
    """Raises DownloadError where the file is not the expected one; it is emptied then."""
    digest = _digest(download, file)
    if not digest.startswith(download.sha256):
        size = file.seek(0, os.SEEK_END)
        os.unlink(_part(download))
        raise DownloadError(
            f"received {size} bytes with SHA-256 {digest[:16]}…, expected {download.sha256}…"
        )
    os.fsync(file.fileno())


def _digest(download: Download, file: BinaryIO) -> str:
    digest = hashlib.sha256()
    file.seek(0)
    while chunk := file.read(_CHUNK):
        digest.update(chunk)
        _wait(download, 0)
    return digest.hexdigest()


def _wait(download: Download, seconds: float) -> None:
    """Waits, and ends the download if it is to stop."""
    if download.stopped():
        raise DownloadError("it was stopped")
    time.sleep(seconds)


@contextmanager
def _network() -> Iterator[None]:
    """What goes wrong with the network as a _NetworkError, told from what does with the file."""
    try:
        yield
    except urllib.error.HTTPError as error:
        error.close()
        reason = f"the server answers {error.code} {error.reason}"
        raise _NetworkError(reason, error.code) from None
    except (OSError, http.client.HTTPException, ValueError) as error:
        cause = error.reason if isinstance(error, urllib.error.URLError) else error
        reason = str(getattr(cause, "strerror", None) or cause)
        if isinstance(cause, TimeoutError):
            reason = f"no answer within {TIMEOUT:g} s"
        raise _NetworkError(reason or type(cause).__name__) from None
