# SPDX-License-Identifier: Apache-2.0
"""The Fast DDS profile with which large images are not lost in transport."""

from __future__ import annotations

import os
from pathlib import Path

from ament_index_python.packages import get_package_share_directory
from rclpy.utilities import get_rmw_implementation_identifier

# Jazzy and before read the first, Kilted and later the second.
PROFILE_VARIABLES = ("FASTRTPS_DEFAULT_PROFILES_FILE", "FASTDDS_DEFAULT_PROFILES_FILE")


def shipped_profile() -> Path:
    """The package's profile: from the source folder, else from the installed share folder.

    Raises:
        LookupError: it is in neither.
    """
    clone = Path(__file__).resolve().parents[2]
    if (clone / "package.xml").exists():
        return clone / "config" / "fastdds.xml"
    return Path(get_package_share_directory("ssd_ros")) / "config" / "fastdds.xml"


def has_profile() -> bool:
    """Whether this process was started with a profile of any kind."""
    return any(os.environ.get(name) for name in PROFILE_VARIABLES)


def apply_profile(file: Path) -> None:
    """Selects a profile for this process, before rclpy.init, and for its child processes.

    A profile that the user has selected is kept.
    """
    if not has_profile():
        os.environ.update(dict.fromkeys(PROFILE_VARIABLES, str(file)))


def suggestion() -> str:
    """What the user can do if images are lost on the way to this process."""
    if "fastrtps" not in get_rmw_implementation_identifier():
        return (
            "increase the receive buffers of the camera driver and this node "
            "(net.core.rmem_max), or use image_transport compressed"
        )
    if has_profile():
        return (
            "start the camera driver with the same Fast DDS profile; if it already has it, the CPU "
            "is overloaded: reduce the frame rate"
        )
    try:
        file = str(shipped_profile())
    except LookupError:  # copied without its share folder
        file = "config/fastdds.xml of the ssd_ros repository"
    return f"start the camera driver and this node with {PROFILE_VARIABLES[0]}={file}"
