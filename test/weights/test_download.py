# SPDX-License-Identifier: Apache-2.0
"""A file is downloaded once, completely or not at all, whatever server, disk and user do."""

import hashlib
import resource
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from file_server import FileServer, serve

from ssd_ros.weights import download
from ssd_ros.weights.download import Download, DownloadError, Progress, fetch

DATA = bytes(range(256)) * 8000  # 2 MB: several times what is received at once
SHA256 = hashlib.sha256(DATA).hexdigest()[:8]
FETCH = """
import sys
from pathlib import Path
from ssd_ros.weights.download import Download, fetch
fetch(Download(sys.argv[1], Path(sys.argv[2]), sys.argv[3]))
"""


@pytest.fixture
def target(tmp_path) -> Path:
    return tmp_path / "hub" / "checkpoints" / "w.safetensors"


@pytest.fixture
def served() -> Iterator[tuple[FileServer, str]]:
    with serve(DATA) as server_and_url:
        yield server_and_url


@pytest.fixture(autouse=True)
def _no_pause(monkeypatch):
    monkeypatch.setattr(download, "_PAUSE", 0.0)


def names(target: Path) -> list[str]:
    return sorted(path.name for path in target.parent.iterdir())


def start(url: str, target: Path, **options) -> subprocess.Popen:
    command = [sys.executable, "-c", FETCH, url, str(target), SHA256]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True, **options)


def test_it_is_complete_and_not_asked_for_again(served, target):
    server, url = served
    seen: list[Progress] = []
    for _ in range(2):
        fetch(Download(url, target, SHA256, seen.append))
    assert target.read_bytes() == DATA
    assert names(target) == [target.name]
    assert server.requests == [None]
    assert seen[-1] == (len(DATA), len(DATA), False)
    assert str(seen[-1]) == "2 of 2 MB"


@pytest.mark.parametrize("ranges", [True, False])
def test_it_goes_on_where_the_connection_broke(ranges, served, target):
    server, url = served
    server.cuts, server.ranges = [1_000_000, 500_000], ranges
    fetch(Download(url, target, SHA256))
    assert target.read_bytes() == DATA
    assert names(target) == [target.name]
    second = 1_500_000 if ranges else 500_000
    assert server.requests == [None, "bytes=1000000-", f"bytes={second}-"]


def test_a_server_that_sends_nothing_is_given_up_and_can_be_tried_again(served, target):
    server, url = served
    server.cuts = [1000, 0, 0]
    with pytest.raises(DownloadError, match="broke after 1000 of 2048000 bytes"):
        fetch(Download(url, target, SHA256))
    assert not target.exists()
    fetch(Download(url, target, SHA256))
    assert target.read_bytes() == DATA
    assert server.requests == [None, *["bytes=1000-"] * 3]


def test_another_file_is_refused_and_not_kept(served, target):
    _, url = served
    with pytest.raises(DownloadError, match=rf"SHA-256 {SHA256}.*, expected 12345678"):
        fetch(Download(url, target, "12345678"))
    assert names(target) == []


@pytest.mark.parametrize("size", [1000, len(DATA), 2 * len(DATA)])
def test_the_beginning_of_another_file_is_noticed(size, served, target):
    _, url = served
    target.parent.mkdir(parents=True)
    target.with_name(f"{target.name}.part").write_bytes(b"x" * size)
    fetch(Download(url, target, SHA256))
    assert target.read_bytes() == DATA


def test_what_is_complete_but_has_no_name_yet_is_not_asked_for_again(served, target):
    server, url = served
    target.parent.mkdir(parents=True)
    target.with_name(f"{target.name}.part").write_bytes(DATA)
    fetch(Download(url, target, SHA256))
    assert target.read_bytes() == DATA
    assert server.requests == [f"bytes={len(DATA)}-"]  # answered by "416 Range Not Satisfiable"


def test_an_interrupted_download_is_continued(served, target):
    server, url = served
    server.released.clear()
    process = start(url, target)
    assert server.half_sent.wait(60)
    part = target.with_name(f"{target.name}.part")
    while part.stat().st_size < len(DATA) // 4:
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    assert "KeyboardInterrupt" in process.communicate(timeout=60)[1]
    assert names(target) == [part.name]
    size = part.stat().st_size
    server.released.set()
    fetch(Download(url, target, SHA256))
    assert target.read_bytes() == DATA
    assert server.requests == [None, f"bytes={size}-"]


def test_two_processes_download_once(served, target):
    server, url = served
    server.released.clear()
    first = start(url, target)
    assert server.half_sent.wait(60)
    waiting = threading.Event()

    def report(progress: Progress) -> None:
        if progress.waiting:
            waiting.set()
            server.released.set()

    fetch(Download(url, target, SHA256, report))
    assert first.wait(60) == 0
    assert waiting.is_set()
    assert target.read_bytes() == DATA
    assert names(target) == [target.name]
    assert server.requests == [None]


def test_what_a_killed_process_left_is_taken_over(served, target):
    server, url = served
    server.released.clear()
    first = start(url, target)
    assert server.half_sent.wait(60)

    def report(progress: Progress) -> None:
        if progress.waiting:
            first.kill()
            server.released.set()

    fetch(Download(url, target, SHA256, report))
    first.communicate()
    assert target.read_bytes() == DATA
    assert len(server.requests) == 2


def test_a_file_that_another_process_begins_again_meanwhile_is_taken_over(
    served, target, monkeypatch
):
    _, url = served
    part = target.with_name(f"{target.name}.part")
    original, locked = download._try_to_lock, []

    def lock(file):
        if not locked:  # between opening and locking
            part.unlink()
            part.touch()
        locked.append(file)
        return original(file)

    monkeypatch.setattr(download, "_try_to_lock", lock)
    fetch(Download(url, target, SHA256))
    assert target.read_bytes() == DATA
    assert len(locked) == 2


def test_it_can_be_stopped(served, target):
    _, url = served
    with pytest.raises(DownloadError, match="stopped"):
        fetch(Download(url, target, SHA256, stopped=lambda: True))


def test_a_full_disk_is_noticed_before(served, target):
    server, url = served
    server.length = 10**17
    with pytest.raises(DownloadError, match=r"no space .*: 100000000000 MB are needed, \d+ MB are"):
        fetch(Download(url, target, SHA256))


def test_a_disk_that_fills_up_is_told(served, target):
    _, url = served
    limit = (100_000, 100_000)
    process = start(
        url, target, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    )
    error = process.communicate(timeout=60)[1]
    assert f"DownloadError: cannot write in '{target.parent}': File too large" in error
    assert not target.exists()


def test_a_folder_that_cannot_be_made_is_told(served, target):
    _, url = served
    target.parent.parent.write_text("a file")
    with pytest.raises(DownloadError, match=r"cannot write in '.*checkpoints'"):
        fetch(Download(url, target, SHA256))


def test_the_reason_of_a_failure_is_told(served, target, monkeypatch):
    server, url = served
    server.status = 404
    with pytest.raises(DownloadError, match="the server answers 404"):
        fetch(Download(url, target, SHA256))
    assert len(server.requests) == 1
    server.status = 503
    with pytest.raises(DownloadError, match="the server answers 503"):
        fetch(Download(url, target, SHA256))
    assert len(server.requests) == 4
    with socket.socket() as nobody:  # a port on which nobody listens
        nobody.bind(("127.0.0.1", 0))
        port = nobody.getsockname()[1]
        with pytest.raises(DownloadError, match="Connection refused"):
            fetch(Download(f"http://127.0.0.1:{port}/", target, SHA256))
    server.status = 0
    server.released.clear()
    monkeypatch.setattr(download, "TIMEOUT", 0.2)
    with pytest.raises(DownloadError, match=r"no answer within 0\.2 s"):
        fetch(Download(url, target, SHA256))
