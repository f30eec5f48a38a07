# SPDX-License-Identifier: Apache-2.0
"""The environment of all tests: a ROS domain of their own, and the fixtures where ROS 2 is."""

import importlib.util
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

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
        help="the long tests at full length: twenty minutes, on a machine with no other work",
    )


@pytest.fixture
def rounds(request: pytest.FixtureRequest) -> Callable[..., Any]:
    """rounds(short=…, full=…): one of the two, by --endurance."""
    name = "full" if request.config.getoption("--endurance") else "short"
    return lambda **choices: choices[name]


if all(map(importlib.util.find_spec, ("rclpy", "vision_msgs"))):
    from ros_graph import (  # noqa: F401 - fixtures
        gate,
        graph,
        other_weights,
        picture_folder,
        pictures,
        rclpy_started,
        weights,
    )
