# SPDX-License-Identifier: Apache-2.0
"""glibc malloc settings for large images."""

from __future__ import annotations

import ctypes
import platform

# glibc's malloc.h
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -2, -3, -8
_MIB = 2**20


def tune_malloc_for_images() -> bool:
    """Makes malloc keep the memory of one image for the next.

    By default glibc maps each large block anew and unmaps it when it is freed; the page faults of
    that cost more than receiving the image itself (4 instead of 15 ms for 1920x1080 bgr8).
    At most 256 MiB of freed memory stay with the process. Threads share two arenas: of the eight
    a core that glibc would make, each keeps pages of its own that others could use, and more with
    time.

    Returns:
        Whether the settings took effect; only glibc has them.
    """
    if not _is_glibc():
        return False
    mallopt = ctypes.CDLL(None).mallopt
    settings = (
        (_M_MMAP_THRESHOLD, 32 * _MIB),
        (_M_TRIM_THRESHOLD, 256 * _MIB),
        (_M_TOP_PAD, 64 * _MIB),
        (_M_ARENA_MAX, 2),
    )
    return all(mallopt(option, value) for option, value in settings)


def return_freed_memory() -> None:
    """Returns freed memory to the system, for after large temporary arrays.

    Weights are in memory several times while a network is created: 100 MB of a width of 1.0 would
    stay with the process.
    """
    if _is_glibc():
        ctypes.CDLL(None).malloc_trim(0)


def _is_glibc() -> bool:
    return platform.libc_ver()[0] == "glibc"
