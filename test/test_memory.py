# SPDX-License-Identifier: Apache-2.0
"""Memory settings: a process that has them receives pictures without page faults."""

import platform
import subprocess
import sys

import pytest

FAULTS = """
import resource, sys
import numpy as np
from ssd_ros import memory
if sys.argv[1] == "kept":
    assert memory.keep_for_pictures()
def receive():  # the wire's copy, the message's and Python's are there at once
    [np.ones(1920 * 1080 * 3, np.uint8) for _ in range(3)]
receive()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20): receive()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def page_faults(settings: str) -> int:
    """Of twenty pictures of 1920x1080 bgr8, received one after the other."""
    command = [sys.executable, "-c", FAULTS, settings]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    return int(result.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc has the settings")
def test_a_picture_reuses_the_memory_of_the_one_before():
    assert page_faults("kept") < 100
    assert page_faults("as it comes") > 1000
