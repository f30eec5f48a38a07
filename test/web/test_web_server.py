# SPDX-License-Identifier: Apache-2.0
"""What the web page's server listens on."""

import asyncio
import errno
import os
import socket

import pytest

pytest.importorskip("aiohttp", reason="needs requirements-demo.txt")

from ssd_ros.web.server import _listen

OURS = (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", 0))
LACKING = (socket.AF_UNSPEC, socket.SOCK_STREAM, 6, "", ("127.0.0.1", 0))  # of no system
FOREIGN = (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("192.0.2.1", 0))


def listened(monkeypatch, *infos):
    """The addresses listened on, for a host that has these."""
    monkeypatch.setattr(socket, "getaddrinfo", lambda *arguments, **more: list(infos))
    listeners = asyncio.run(_listen("host", 0))
    addresses = [listener.getsockname()[0] for listener in listeners]
    for listener in listeners:
        listener.close()
    return addresses


def test_an_address_that_is_there_twice_or_lacking_leaves_the_others(monkeypatch):
    assert listened(monkeypatch, OURS, LACKING, FOREIGN, OURS) == ["127.0.0.1"]


@pytest.mark.parametrize(
    ("info", "number"), [(LACKING, errno.EAFNOSUPPORT), (FOREIGN, errno.EADDRNOTAVAIL)]
)
def test_without_any_address_the_reason_is_raised(monkeypatch, info, number):
    with pytest.raises(OSError, match=os.strerror(number)):
        listened(monkeypatch, info)


def test_an_address_in_use_is_an_error_though_another_is_lacking(monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as other:
        used = (*OURS[:4], other.getsockname())
        with pytest.raises(OSError, match=os.strerror(errno.EADDRINUSE)):
            listened(monkeypatch, OURS, used, LACKING)
