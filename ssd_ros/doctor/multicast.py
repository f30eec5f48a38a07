# SPDX-License-Identifier: Apache-2.0
"""Whether multicast works here, by which DDS finds nodes on other machines."""

from __future__ import annotations

import os
import socket

GROUP = "239.255.0.1"  # DDS's own
_TIMEOUT = 1.0  # seconds until a datagram that was sent to this machine itself is lost


def probe() -> str:
    """Sends a datagram to the group and receives it. Returns why that failed; empty if it did not.

    The interface is the one of the default route. Whether a switch or an access point passes
    multicast on cannot be seen from one machine.
    """
    content = os.urandom(16)
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender,
    ):
        try:
            receiver.bind(("", 0))
            member = socket.inet_aton(GROUP) + socket.inet_aton("0.0.0.0")
            receiver.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, member)
            receiver.settimeout(_TIMEOUT)
            sender.sendto(content, (GROUP, receiver.getsockname()[1]))
            while receiver.recv(64) != content:
                pass
        except TimeoutError:
            return "what was sent is not received"
        except OSError as error:
            return str(error.strerror)
    return ""
