# SPDX-License-Identifier: Apache-2.0
"""Which Python runs, in which environment, for which one ROS was built, and what to do."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path

Version = tuple[int, int]  # major and minor
ACTIVATE = "source FOLDER/bin/activate"
# Compiled for one version of Python, and found through PYTHONPATH once ROS 2 is sourced.
_ROS = ("rclpy", "ament_index_python", "builtin_interfaces", "rcl_interfaces", "rpyutils")


def explain(error: ImportError, environ: Mapping[str, str] = os.environ) -> str:
    """One or two sentences on a failed import: what is missing, and how it gets there.

    Args:
        environ: environment variables of the process.
    """
    module = (error.name or "").partition(".")[0]
    if not (module.startswith("_rclpy") or module.endswith("_msgs") or module in _ROS):
        missing = f"the module '{module}' is missing" if module else str(error)
        return f"{missing}: {how_to_get('-r requirements.txt', environ)}"
    distro, prefixes = environ.get("ROS_DISTRO"), environ.get("AMENT_PREFIX_PATH")
    if not distro and prefixes is None:
        return f"ROS 2 is not active ({error}): source /opt/ros/DISTRO/setup.bash first"
    what, fix = python_of_ros(find_rclpy(prefixes or ""), sys.version_info[:2])
    if what:
        return f"{what}: {fix}"
    return (
        f"'{module}' of ROS 2 {distro or ''} cannot be imported by {sys.executable} (Python "
        f"{version_text(sys.version_info[:2])}): {' '.join(str(error).split())}. Install the "
        "package, or, if ROS 2 was built for another Python, use a virtual environment that was "
        f"made by that one: {new_environment('/usr/bin/python3')}"
    )


def how_to_get(packages: str, environ: Mapping[str, str] = os.environ) -> str:
    """What to type for packages from PyPI that this Python does not have.

    Args:
        packages: arguments of `pip install`.
        environ: environment variables of the process.
    """
    active = active_environment(environ)
    if other := python_of_another(active, sys.prefix):
        return (
            f"{other}. Start the node by `ros2 run` or `ros2 launch` in a terminal in which the "
            "environment is active and its `python3` works, or "
            f"`{sys.executable} -m pip install {packages}`"
        )
    if not active and sys.prefix == sys.base_prefix:
        return (
            f"no virtual environment is active, and {sys.executable} does not have it. Type "
            f"`{ACTIVATE}` in this terminal, then start again; a new one: `{new_environment()}`, "
            f"and in it `pip install {packages}`"
        )
    return f"pip install {packages}"


def active_environment(environ: Mapping[str, str]) -> str:
    """The folder of the environment that the shell has activated; empty for none."""
    return environ.get("VIRTUAL_ENV") or environ.get("CONDA_PREFIX") or ""


def python_of_another(active: str, prefix: str) -> str:
    """Says that a Python is not that of the active environment; empty if it is, or none is active.

    Args:
        active: see `active_environment`.
        prefix: sys.prefix of the Python.
    """
    if not active or Path(active).resolve() == Path(prefix).resolve():
        return ""
    return f"the virtual environment {active} is active, but this Python is of {prefix}"


def find_rclpy(ament_prefix_path: str) -> dict[Version, str]:
    """The Python versions for which there is an rclpy, each with the prefix that has it."""
    found: dict[Version, str] = {}
    for prefix in filter(None, ament_prefix_path.split(os.pathsep)):
        for folder in sorted(Path(prefix).glob("**/python3.*/*-packages/rclpy")):
            match = re.search(r"/python3\.(\d+)/", folder.as_posix())
            if match:
                found.setdefault((3, int(match[1])), prefix)
    return found


def python_of_ros(ros: Mapping[Version, str], version: Version) -> tuple[str, str]:
    """Says that ROS was built for another Python, and what to do; empty if it was not.

    Args:
        ros: see `find_rclpy`.
        version: of this Python.
    """
    if not ros or version in ros:
        return "", ""
    needed, prefix = max(ros.items())
    return (
        f"ROS in {prefix} was built for Python {version_text(needed)}, this is Python "
        f"{version_text(version)}",
        "make the virtual environment with that one: "
        f"{new_environment(f'python{version_text(needed)}')}; with conda active: conda deactivate",
    )


def new_environment(python: str = "python3") -> str:
    """The command that makes a virtual environment which has the packages of ROS, too."""
    return f"{python} -m venv --system-site-packages FOLDER"


def version_text(version: Version) -> str:
    """`3.12`."""
    return f"{version[0]}.{version[1]}"
