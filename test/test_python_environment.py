# SPDX-License-Identifier: Apache-2.0
"""Which Python the installed nodes run in, and what they say where a module is missing there."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ssd_ros.python_environment import explain, find_rclpy, how_to_get

ROOT = Path(__file__).parents[1]
SCRIPTS = sorted((ROOT / "scripts").iterdir())
NO_VENV: dict[str, str] = {}


def missing(module, text=""):
    return ModuleNotFoundError(text or f"No module named '{module}'", name=module)


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_a_script_runs_in_the_python_that_is_first_on_the_path(script, tmp_path):
    """That of the active virtual environment: the script is installed as it is, see setup.py."""
    python = tmp_path / "python3"
    python.write_text('#!/bin/sh\necho "$0" "$@"\n')
    python.chmod(0o755)
    path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
    command = [str(script), "argument"]
    result = subprocess.run(command, env={"PATH": path}, capture_output=True, text=True, check=True)
    assert result.stdout.split() == [str(python), *command]


@pytest.mark.parametrize("node", ["detector", "image_source"])
def test_a_script_prints_the_parameters_of_its_node(node):
    command = [sys.executable, str(ROOT / "scripts" / node), "--help"]
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    environment = os.environ | {"PYTHONPATH": path}
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert f"usage: ros2 run ssd_ros {node} " in result.stdout


def test_a_node_whose_python_lacks_a_module_says_which_and_ends_with_1():
    code = (
        "import sys; sys.modules['rclpy'] = None\n"
        "from ssd_ros.ros.commands import detector; sys.exit(detector())"
    )
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)}
    result = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False
    )
    assert result.returncode == 1
    assert "detector: ROS 2 is not active" in result.stderr
    assert "Traceback" not in result.stderr


def test_without_an_active_environment_it_is_the_environment_that_is_missing(monkeypatch):
    monkeypatch.setattr(sys, "prefix", sys.base_prefix)
    text = explain(missing("openvino"), NO_VENV)
    assert "'openvino' is missing" in text
    assert "no virtual environment is active" in text
    assert "source FOLDER/bin/activate" in text


def test_in_the_active_environment_the_package_is_missing():
    active = {"VIRTUAL_ENV": sys.prefix}
    assert how_to_get("openvino", active) == "pip install openvino"
    assert explain(missing("tqdm.auto"), active) == (
        "the module 'tqdm' is missing: pip install -r requirements.txt"
    )


def test_a_python_that_is_not_the_active_environments_is_named():
    text = how_to_get("openvino", {"VIRTUAL_ENV": "/some/venv"})
    assert sys.executable in text
    assert "/some/venv" in text


@pytest.mark.parametrize(
    "module", ["rclpy", "_rclpy_pybind11", "vision_msgs", "rcl_interfaces.msg"]
)
def test_a_part_of_ros_that_is_made_for_another_python_is_not_to_be_installed_by_pip(module):
    error = missing(module, "The C extension\n'_rclpy.cpython-310.so' is not present")
    text = explain(error, {"ROS_DISTRO": "humble"})
    assert sys.executable in text
    assert "The C extension '_rclpy.cpython-310.so' is not present" in text
    assert "/usr/bin/python3 -m venv --system-site-packages" in text
    assert "source /opt/ros" in explain(error, {})


def test_ros_that_was_built_for_another_python_is_named_with_both_versions(tmp_path):
    """As the doctor names it."""
    (tmp_path / "lib" / "python3.99" / "site-packages" / "rclpy").mkdir(parents=True)
    environ = {"ROS_DISTRO": "jazzy", "AMENT_PREFIX_PATH": str(tmp_path)}
    told = explain(missing("rclpy"), environ)
    assert f"ROS in {tmp_path} was built for Python 3.99, this is Python 3." in told
    assert "python3.99 -m venv --system-site-packages" in told


@pytest.mark.parametrize(
    "folder", ["lib/python3.12/site-packages", "local/lib/python3.10/dist-packages"]
)
def test_the_python_of_ros_is_found_where_its_packages_are(tmp_path, folder):
    (tmp_path / folder / "rclpy").mkdir(parents=True)
    found = find_rclpy(f"/nowhere:{tmp_path}")
    assert found == {(3, 12 if "12" in folder else 10): str(tmp_path)}
