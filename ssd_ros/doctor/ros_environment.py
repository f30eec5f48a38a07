# SPDX-License-Identifier: Apache-2.0
"""What the environment says about ROS: middleware, domain, Fast DDS profile, message packages."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from xml.etree import ElementTree

from ssd_ros.doctor.finding import FAIL, OK, WARN, Finding

MESSAGES = (
    *("sensor_msgs", "vision_msgs", "diagnostic_msgs", "visualization_msgs"),
    *("std_srvs", "lifecycle_msgs"),
)
_SHOWN = (
    *("ROS_AUTOMATIC_DISCOVERY_RANGE", "ROS_STATIC_PEERS", "ROS_LOCALHOST_ONLY"),
    *("ROS_DISCOVERY_SERVER", "FASTDDS_BUILTIN_TRANSPORTS", "CYCLONEDDS_URI"),
)
_HIGHEST_DOMAIN = 232


@dataclass(frozen=True)
class RosFacts:
    """What the environment says.

    Attributes:
        environment: variables of this process.
        middleware: name of the RMW implementation.
        uses_fast_dds: whether it is Fast DDS.
        profile: file of the Fast DDS profile; empty without one.
        profile_error: why that file cannot be used; empty if it can.
        suggestion: what to do for a profile.
        shared_memory: size of /dev/shm in MiB; 0 where there is none.
        memory: why the profile's shared memory does not fit into /dev/shm; empty if it does.
        missing: of MESSAGES.
    """

    environment: Mapping[str, str]
    middleware: str
    uses_fast_dds: bool
    profile: str
    profile_error: str
    suggestion: str
    shared_memory: int
    memory: str
    missing: Sequence[str]


def probe() -> RosFacts:
    """Looks at the environment; needs rclpy."""
    from ssd_ros.ros import dds_profile

    given = (os.environ.get(name, "") for name in dds_profile.PROFILE_VARIABLES)
    profile = next(filter(None, given), "").removeprefix("file://")
    return RosFacts(
        dict(os.environ),
        dds_profile.middleware(),
        dds_profile.uses_fast_dds(),
        profile,
        _xml_error(profile) if profile else "",
        dds_profile.suggestion(),
        dds_profile.shared_memory_size() // dds_profile.MIB,
        dds_profile.shared_memory_problem(),
        [name for name in MESSAGES if importlib.util.find_spec(name) is None],
    )


def judge(facts: RosFacts) -> list[Finding]:
    """Findings about the environment of ROS."""
    findings = [_judge_domain(facts), *_judge_profile(facts)]
    if facts.memory:
        findings.append(Finding(WARN, "shared memory is too small", facts.memory))
    for name in facts.missing:
        package = name.replace("_", "-")
        findings.append(
            Finding(
                FAIL,
                f"the message package {name} is missing",
                f"apt install ros-$ROS_DISTRO-{package}, or rosdep install --from-paths src",
            )
        )
    return findings


def _xml_error(file: str) -> str:
    try:
        ElementTree.parse(file)
    except OSError as error:
        return str(error.strerror)
    except ElementTree.ParseError as error:
        return f"it is not XML ({error})"
    return ""


def _judge_domain(facts: RosFacts) -> Finding:
    domain = facts.environment.get("ROS_DOMAIN_ID") or "0"
    shown = [f"{name}={facts.environment[name]}" for name in _SHOWN if facts.environment.get(name)]
    text = f"{facts.middleware}, ROS domain {domain}" + "".join(f", {item}" for item in shown)
    if not domain.isdecimal() or int(domain) > _HIGHEST_DOMAIN:
        fix = f"export ROS_DOMAIN_ID=N with N from 0 to {_HIGHEST_DOMAIN}, the same for all nodes"
        return Finding(FAIL, f"{text}: no such domain", fix)
    return Finding(OK, text)


def _judge_profile(facts: RosFacts) -> list[Finding]:
    if not facts.uses_fast_dds:
        return []
    if not facts.profile:
        return [
            Finding(
                WARN,
                "no Fast DDS profile is active in this shell: most large images are lost or late",
                facts.suggestion,
            )
        ]
    if facts.profile_error:
        return [
            Finding(
                FAIL,
                f"the Fast DDS profile '{facts.profile}' is not used: {facts.profile_error}",
                "correct FASTRTPS_DEFAULT_PROFILES_FILE and FASTDDS_DEFAULT_PROFILES_FILE",
            )
        ]
    return [
        Finding(
            OK,
            f"Fast DDS profile {facts.profile}, /dev/shm of {facts.shared_memory} MiB; the camera "
            "driver needs the profile, too",
        )
    ]
