# SPDX-License-Identifier: Apache-2.0
"""Endpoints on one machine that share no memory, told by Fast DDS's identifiers."""

import os
import subprocess
from types import SimpleNamespace

import pytest

pytest.importorskip("rclpy", reason="needs ROS 2 (pip_ros/install.py brings it)")

from ssd_ros.ros.endpoints import EPROSIMA, UNKNOWN, shared_memory_obstacle

HOST, OTHER_HOST = b"\x78\xfd", b"\x11\x22"
NOBODY = 65534


def endpoint(pid: int, name: str = UNKNOWN, vendor: bytes = EPROSIMA, host: bytes = HOST):
    gid = vendor + host + (pid % 2**16).to_bytes(2, "little") + bytes(10)
    return SimpleNamespace(node_name=name, endpoint_gid=list(gid))


OWN = endpoint(os.getpid(), "detector")


@pytest.mark.parametrize(
    "publisher",
    [
        endpoint(1, "driver"),
        endpoint(1, host=OTHER_HOST),
        endpoint(1, vendor=b"\x01\x10"),
    ],
    ids=["known node", "another machine", "another middleware"],
)
def test_other_publishers_are_not_suspected(publisher):
    assert shared_memory_obstacle(publisher, OWN) == ""


def test_a_process_that_is_not_visible_is_in_another_container(tmp_path, monkeypatch):
    monkeypatch.setattr("ssd_ros.ros.endpoints.PROCESSES", tmp_path)
    found = shared_memory_obstacle(endpoint(77), OWN)
    assert "another container or as another user" in found
    assert "--ipc=host" in found


@pytest.mark.skipif(os.geteuid() != 0, reason="starts a process of another user")
def test_a_process_of_another_user_is_named_with_both_users():
    process = subprocess.Popen(["sleep", "1000"], user=NOBODY)
    try:
        found = shared_memory_obstacle(endpoint(process.pid), OWN)
    finally:
        process.kill()
        process.wait()
    assert f"it runs as user {NOBODY}, this node as user 0; run both as one" in found
    assert "FASTDDS_BUILTIN_TRANSPORTS=UDPv4" in found
