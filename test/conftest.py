# SPDX-License-Identifier: Apache-2.0
"""The environment of all tests: a ROS domain of their own, and the fixtures where ROS 2 is."""

import importlib.util
import os
from pathlib import Path

import pytest

import ssd_ros  # noqa: F401 - before PyTorch is loaded, as in the package's own processes

PROFILE = str(Path(__file__).parents[1] / "config" / "fastdds.xml")

# Read by rclpy and Fast DDS at their start, and by the processes that the tests start.
ENVIRONMENT = {
    "ROS_DOMAIN_ID": str(1 + os.getpid() % 100),
    "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST",
    "FASTRTPS_DEFAULT_PROFILES_FILE": PROFILE,
    "FASTDDS_DEFAULT_PROFILES_FILE": PROFILE,
}
if os.environ.get("ROS_DISTRO") == "humble":  # later ones warn about this name
    ENVIRONMENT["ROS_LOCALHOST_ONLY"] = "1"
for name, value in ENVIRONMENT.items():
    os.environ.setdefault(name, value)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--endurance",
        action="store_true",
        help="also the long tests: twenty minutes",
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    endurance = pytest.mark.skip(reason="takes minutes; pytest --endurance runs it")
    for item in items:
        if "rclpy_started" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.graph)
        if "endurance" in item.keywords and not config.getoption("--endurance"):
            item.add_marker(endurance)


if all(map(importlib.util.find_spec, ("rclpy", "vision_msgs"))):
    from ros_graph import (  # noqa: F401 - fixtures
        gate,
        graph,
        image_folder,
        images,
        other_weights,
        rclpy_started,
        weights,
    )
