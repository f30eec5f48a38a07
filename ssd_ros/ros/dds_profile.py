# SPDX-License-Identifier: Apache-2.0
"""How images travel: the Fast DDS profile that keeps them from getting lost."""

from __future__ import annotations

import os
from pathlib import Path

from ament_index_python.packages import get_package_share_directory
from rclpy.utilities import get_rmw_implementation_identifier

# Jazzy and before read the first, Kilted and later the second.
PROFILE_VARIABLES = ("FASTRTPS_DEFAULT_PROFILES_FILE", "FASTDDS_DEFAULT_PROFILES_FILE")


def shipped_profile() -> Path:
    """In a clone beside the package, in an installation in the package's share folder."""
    clone = Path(__file__).resolve().parents[2]
    if (clone / "package.xml").exists():
        return clone / "config" / "fastdds.xml"
    return Path(get_package_share_directory("ssd_ros")) / "config" / "fastdds.xml"


def has_profile() -> bool:
    """Whether this process was started with a profile of any kind."""
    return any(os.environ.get(name) for name in PROFILE_VARIABLES)


def apply_profile(file: Path) -> None:
    """Puts a profile in force here, before rclpy.init, and for child processes.

    One that the user has chosen stays.
    """
    if not has_profile():
        os.environ.update(dict.fromkeys(PROFILE_VARIABLES, str(file)))


def suggestion() -> str:
    """What to do where images get lost on the way to this process, for its log."""
    if "fastrtps" not in get_rmw_implementation_identifier():
        return (
            "give the camera's driver and this node larger receive buffers (net.core.rmem_max), "
            "or send image_transport compressed"
        )
    if has_profile():
        return (
            "the camera's driver needs the Fast DDS profile too, as this node has it; if it has, "
            "the machine is too busy: lower the camera's rate"
        )
    return (
        f"start the camera's driver and this node with {PROFILE_VARIABLES[0]}={shipped_profile()}"
    )
