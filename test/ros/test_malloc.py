# SPDX-License-Identifier: Apache-2.0
"""Memory settings: a process that has them keeps an image's memory for the next image."""

import platform
import subprocess
import sys

import pytest

IMAGE = 1920 * 1080 * 3
KEPT = f"""
import ctypes, sys
import numpy as np
from ssd_ros.ros import malloc

class MallInfo(ctypes.Structure):
    names = "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost"
    _fields_ = [(name, ctypes.c_size_t) for name in names.split()]

mallinfo = ctypes.CDLL(None).mallinfo2
mallinfo.restype = MallInfo
if "tuned" in sys.argv:
    assert malloc.tune_malloc_for_images()
before = mallinfo()
for _ in range(3):  # the wire's copy, the message's and Python's are there at once
    [np.ones({IMAGE}, np.uint8) for _ in range(3)]
if "returned" in sys.argv:
    malloc.return_freed_memory()
after = mallinfo()
print(after.arena + after.hblkhd - before.arena - before.hblkhd)
"""


def kept_after_images(*settings: str) -> int:
    """Bytes that malloc does not give back after images of 1920x1080 bgr8."""
    command = [sys.executable, "-c", KEPT, *settings]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    return int(result.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc has the settings")
def test_the_memory_of_images_is_kept_for_the_next():
    assert kept_after_images("tuned") >= 3 * IMAGE
    assert kept_after_images("as it comes") < 2 * IMAGE
    assert kept_after_images("tuned", "returned") < IMAGE
