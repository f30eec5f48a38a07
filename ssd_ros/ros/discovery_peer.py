# SPDX-License-Identifier: Apache-2.0
"""A node in a process of its own, by which another process checks that nodes find each other."""

from __future__ import annotations

import os
import select
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager

PREFIX = "_ssd_ros_peer_"  # the underscore hides the node from `ros2 node list`


class Peer:
    """A node in another process.

    Args:
        name: of the node.
        process: whose standard output gets a line, or ends, once the node has been made or not.
    """

    def __init__(self, name: str, process: subprocess.Popen[bytes]) -> None:
        self.name = name
        self._process = process

    def started(self) -> bool:
        """Whether the process has come as far as making the node, or ended; does not wait."""
        assert self._process.stdout is not None
        return bool(select.select([self._process.stdout], [], [], 0)[0])

    def failure(self) -> str:
        """Why there is no node; empty if there is one. To be called once."""
        if not self.started():
            return "its process has not started in time"
        assert self._process.stdout is not None
        if os.read(self._process.stdout.fileno(), 1):  # else its end
            return ""
        return f"its process ended with exit code {self._process.wait()}"


@contextmanager
def peer() -> Iterator[Peer]:
    """A node that runs in another process until the end of the block."""
    name = PREFIX + uuid.uuid4().hex[:12]
    command = [sys.executable, "-m", "ssd_ros.ros.discovery_peer", name]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as process:
        try:
            yield Peer(name, process)
        finally:
            assert process.stdin is not None
            process.stdin.close()
            try:
                process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                process.kill()


def main() -> None:
    """Runs the node until the standard input ends, as it does when the other process ends."""
    import rclpy
    from rclpy.node import Node

    told = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # Fast DDS writes there
    rclpy.init(args=[])
    node = Node(sys.argv[1], enable_rosout=False, start_parameter_services=False)
    print("started", file=told, flush=True)
    sys.stdin.read()
    node.destroy_node()
    rclpy.shutdown()


if __name__ == "__main__":
    main()
