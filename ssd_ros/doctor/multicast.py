# SPDX-License-Identifier: Apache-2.0
"""Whether multicast works here, by which DDS finds nodes on other machines."""

from __future__ import annotations

import os
import socket
import struct
from pathlib import Path

GROUP = "239.255.0.1"  # DDS's own
_TIMEOUT = 1.0  # seconds until a datagram that was sent to this machine itself is lost
_LOST = "what was sent is not received"


def probe() -> str:
    """Sends a datagram to the group and receives it. Returns why that failed; empty if it did not.

    The interface is the one of the default route; without such a route, any that is up, for DDS
    uses all of them. Whether a switch or an access point passes multicast on cannot be seen from
    one machine.
    """
    problem = _try_interface(0)
    if problem in ("", _LOST) or all(map(_try_interface, _interfaces())):
        return problem
    return ""


def _interfaces() -> list[int]:
    """The numbers of the interfaces that are up and may lead to other machines."""
    found = []
    for number, name in socket.if_nameindex():
        try:
            state = Path("/sys/class/net", name, "operstate").read_text().strip()
        except OSError:
            state = ""
        if name != "lo" and state != "down":
            found.append(number)
    return found


def _try_interface(number: int) -> str:
    """Why an interface does not work, as `probe` returns it. 0 is that of the default route."""
    content = os.urandom(16)
    interface = struct.pack("4s4si", socket.inet_aton(GROUP), bytes(4), number)  # ip_mreqn
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender,
    ):
        try:
            receiver.bind(("", 0))
            receiver.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, interface)
            receiver.settimeout(_TIMEOUT)
            if number:
                sender.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, interface)
            sender.sendto(content, (GROUP, receiver.getsockname()[1]))
            while receiver.recv(64) != content:
                pass
        except TimeoutError:
            return _LOST
        except OSError as error:
            return str(error.strerror)
    return ""
