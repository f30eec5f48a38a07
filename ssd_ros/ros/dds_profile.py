# SPDX-License-Identifier: Apache-2.0
"""The Fast DDS profile with which large images are not lost in transport."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

from ament_index_python.packages import get_package_share_directory
from rclpy.utilities import get_rmw_implementation_identifier

# Jazzy and before read the first, Kilted and later the second.
PROFILE_VARIABLES = ("FASTRTPS_DEFAULT_PROFILES_FILE", "FASTDDS_DEFAULT_PROFILES_FILE")
SHARED_MEMORY = Path("/dev/shm")
MIB = 2**20


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


def middleware() -> str:
    """Name of the RMW implementation of this process."""
    return str(get_rmw_implementation_identifier())


def uses_fast_dds() -> bool:
    """Whether this process uses Fast DDS."""
    return "fastrtps" in middleware()


def segment_size() -> int:
    """Bytes of /dev/shm that the selected profile reserves for each process; 0 without one."""
    file = next((os.environ[name] for name in PROFILE_VARIABLES if os.environ.get(name)), "")
    try:
        text = Path(file.removeprefix("file://")).read_text(errors="replace") if file else ""
    except OSError:  # Fast DDS reports it
        return 0
    sizes = re.findall(r"<segment_size>\s*(\d+)\s*</segment_size>", text)
    return max(map(int, sizes), default=0)


def shared_memory_size() -> int:
    """Bytes of /dev/shm; 0 where there is none."""
    return shutil.disk_usage(SHARED_MEMORY).total if SHARED_MEMORY.is_dir() else 0


def shared_memory_problem() -> str:
    """Whether the profile's segments do not fit into /dev/shm; empty if they do.

    Fast DDS then uses only UDP, and most large images are lost as without the profile. Docker's
    default size of /dev/shm is 64 MiB.
    """
    size = segment_size()
    if not size or not uses_fast_dds() or not SHARED_MEMORY.is_dir():
        return ""
    there = shutil.disk_usage(SHARED_MEMORY)
    if there.total >= 2 * size and (there.free >= size or _has_segment(size)):
        return ""
    return (
        f"{SHARED_MEMORY} has {there.total // MIB} MiB, {there.free // MIB} MiB of them free, but "
        f"the Fast DDS profile needs {size // MIB} MiB in each process (camera driver and this "
        "node): images go by UDP, and large ones get lost. Start the container with --shm-size=1g "
        "(Docker Compose: shm_size) or --ipc=host; 'fastdds shm clean' removes what ended "
        "processes have left"
    )


def unused_shared_memory() -> str:
    """Whether this process has a node, but not the profile's segment; empty if it has both.

    Some sandboxes have a /dev/shm in which Fast DDS cannot make one.
    """
    size = segment_size()
    if not size or not uses_fast_dds() or not SHARED_MEMORY.is_dir() or _has_segment(size):
        return ""
    return (
        f"Fast DDS has made no shared memory in {SHARED_MEMORY}, its messages in the terminal say "
        "why: images go by UDP, and large ones may get lost. Increase its buffers (sysctl "
        "net.core.rmem_max=4194304), or use image_transport compressed"
    )


def _has_segment(size: int) -> bool:
    """Whether this process has a segment of at least `size` bytes in /dev/shm."""
    for line in Path("/proc/self/maps").read_text().splitlines():
        start, end = (int(address, 16) for address in line.split(maxsplit=1)[0].split("-"))
        if f"{SHARED_MEMORY}/fast" in line and end - start >= size:
            return True
    return False


def suggestion() -> str:
    """What the user can do if images are lost on the way to this process."""
    if not uses_fast_dds():
        return (
            "increase the receive buffers of the camera driver and this node "
            "(net.core.rmem_max), or use image_transport compressed"
        )
    if has_profile():
        return shared_memory_problem() or (
            "start the camera driver with the same Fast DDS profile; if it already has it, the CPU "
            "is overloaded: reduce the frame rate"
        )
    try:
        file = str(shipped_profile())
    except LookupError:  # copied without its share folder
        file = "config/fastdds.xml of the ssd_ros repository"
    return f"start the camera driver and this node with {PROFILE_VARIABLES[0]}={file}"
