# SPDX-License-Identifier: Apache-2.0
"""Whether this Python is the one that ROS was built for, and which virtual environment it uses."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ssd_ros.doctor.finding import FAIL, OK, WARN, Finding
from ssd_ros.doctor.importing import try_import
from ssd_ros.python_environment import (
    ACTIVATE,
    Version,
    active_environment,
    find_rclpy,
    python_of_another,
    python_of_ros,
    version_text,
)

OLDEST, NEWEST = (3, 10), (3, 13)  # that the tests run with


@dataclass(frozen=True)
class PythonFacts:
    """What there is to know about a Python.

    Attributes:
        version: major and minor.
        prefix: of this Python; another than `base_prefix` in a virtual environment.
        active: the environment that the shell has activated; empty for none.
        distribution: ROS_DISTRO; empty where no ROS is sourced.
        ros: the Python versions for which the sourced ROS has rclpy, with its folder.
        rclpy_error: why rclpy cannot be imported; empty where it can.
        installed: setup files of ROS that could be sourced.
    """

    version: Version
    executable: str
    prefix: str
    base_prefix: str
    active: str
    distribution: str
    ros: Mapping[Version, str]
    rclpy_error: str
    installed: Sequence[str] = ()


def probe() -> PythonFacts:
    """Looks at the Python that runs this, and imports rclpy."""
    return PythonFacts(
        sys.version_info[:2],
        sys.executable,
        sys.prefix,
        sys.base_prefix,
        active_environment(os.environ),
        os.environ.get("ROS_DISTRO", ""),
        find_rclpy(os.environ.get("AMENT_PREFIX_PATH", "")),
        _import_error("rclpy"),
        sorted(map(str, Path("/opt/ros").glob("*/setup.bash"))),
    )


def judge(facts: PythonFacts) -> list[Finding]:
    """Findings about a Python and its ROS."""
    name = f"Python {version_text(facts.version)}, {facts.executable}"
    findings = []
    if facts.version < OLDEST:
        findings.append(
            Finding(
                FAIL,
                f"{name}: too old",
                f"use Python {version_text(OLDEST)} to {version_text(NEWEST)}",
            )
        )
    elif facts.version > NEWEST:
        text = f"{name}: newer than {version_text(NEWEST)}, with which ssd_ros was tested"
        findings.append(
            Finding(WARN, text, f"if anything fails, use Python {version_text(NEWEST)}")
        )
    else:
        findings.append(Finding(OK, name))
    return [*findings, _judge_environment(facts), _judge_ros(facts)]


def _judge_environment(facts: PythonFacts) -> Finding:
    if other := python_of_another(facts.active, facts.prefix):
        return Finding(
            WARN,
            other,
            f"run {facts.active}/bin/python, or activate the environment of this one",
        )
    if facts.active or facts.prefix != facts.base_prefix:
        how = "is active" if facts.active else "is used without being activated"
        return Finding(OK, f"the virtual environment {facts.prefix} {how}")
    return Finding(
        OK,
        "no virtual environment is active: packages are those of the system; if OpenVINO or "
        f"PyTorch is in one, activate it first ({ACTIVATE}), also before ros2 run",
    )


def _judge_ros(facts: PythonFacts) -> Finding:
    if not facts.rclpy_error:
        where = facts.ros.get(facts.version, "")
        name = facts.distribution or "of unknown name (ROS_DISTRO is not set)"
        return Finding(OK, f"ROS 2 {name}" + (f", {where}" if where else ""))
    what, fix = python_of_ros(facts.ros, facts.version)
    if what:
        return Finding(FAIL, what, fix)
    if "RMW" in facts.rclpy_error:
        return Finding(
            FAIL,
            f"the middleware of RMW_IMPLEMENTATION does not load: {facts.rclpy_error}",
            "install it (apt install ros-$ROS_DISTRO-rmw-…), or unset RMW_IMPLEMENTATION",
        )
    if facts.ros:
        return Finding(
            FAIL,
            f"rclpy of {facts.ros[facts.version]} cannot be imported: {facts.rclpy_error}",
            "source the setup file of ROS in this shell again: source "
            "/opt/ros/$ROS_DISTRO/setup.bash",
        )
    return Finding(
        WARN,
        f"no ROS 2 here ({facts.rclpy_error}): nothing about topics and nodes can be told; "
        "python -m ssd_ros.detect and training work without it",
        "source it: source " + " or ".join(facts.installed or ["/opt/ros/DISTRIBUTION/setup.bash"]),
    )


def _import_error(module: str) -> str:
    loaded, text = try_import(module)
    return "" if loaded else text
