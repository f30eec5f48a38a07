# SPDX-License-Identifier: Apache-2.0
"""The conversions can be imported on a computer without ROS, where messages come from a library."""

import pkgutil
import subprocess
import sys

import pytest

import ssd_ros.messages

WITHOUT_ROS = """
import importlib, sys

for name in sys.argv[2:]:
    sys.modules[name] = None
importlib.import_module(sys.argv[1])
"""
ROS = "rclpy builtin_interfaces geometry_msgs sensor_msgs std_msgs vision_msgs visualization_msgs"


@pytest.mark.parametrize(
    "module", [m.name for m in pkgutil.iter_modules(ssd_ros.messages.__path__)]
)
def test_a_module_of_conversions_is_imported_without_ros(module):
    command = [sys.executable, "-c", WITHOUT_ROS, f"ssd_ros.messages.{module}", *ROS.split()]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
