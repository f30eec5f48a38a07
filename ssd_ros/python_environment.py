# SPDX-License-Identifier: Apache-2.0
"""What to do where a module is missing: which Python runs, and which environment is active."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path

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
    distro = environ.get("ROS_DISTRO")
    if not distro and "AMENT_PREFIX_PATH" not in environ:
        return f"ROS 2 is not active ({error}): source /opt/ros/DISTRO/setup.bash first"
    version = ".".join(map(str, sys.version_info[:2]))
    return (
        f"'{module}' of ROS 2 {distro or ''} cannot be imported by {sys.executable} (Python "
        f"{version}): {' '.join(str(error).split())}. Install the package, or, if ROS 2 was built "
        "for another Python, use a virtual environment that was made by that one: "
        "/usr/bin/python3 -m venv --system-site-packages FOLDER"
    )


def how_to_get(packages: str, environ: Mapping[str, str] = os.environ) -> str:
    """What to type for packages from PyPI that this Python does not have.

    Args:
        packages: arguments of `pip install`.
        environ: environment variables of the process.
    """
    active = environ.get("VIRTUAL_ENV") or environ.get("CONDA_PREFIX")
    if active and Path(active).resolve() != Path(sys.prefix).resolve():
        return (
            f"this is {sys.executable}, although the environment {active} is active. Start the "
            "node by `ros2 run` or `ros2 launch` in a terminal in which the environment is "
            f"active and its `python3` works, or `{sys.executable} -m pip install {packages}`"
        )
    if not active and sys.prefix == sys.base_prefix:
        return (
            f"no virtual environment is active, and {sys.executable} does not have it. Type "
            "`source FOLDER/bin/activate` in this terminal, then start again; a new one: "
            f"`python3 -m venv --system-site-packages FOLDER`, and in it `pip install {packages}`"
        )
    return f"pip install {packages}"
