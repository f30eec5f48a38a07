# SPDX-License-Identifier: Apache-2.0
"""PNG data without what no pixel depends on."""

from __future__ import annotations

import numpy as np

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_MAX_CHUNKS = 10_000  # what comes later stays: a look at millions of empty chunks takes seconds


def without_extras(data: np.ndarray) -> np.ndarray:
    """PNG data without profiles, texts and all else but colours, transparency and pixels.

    OpenCV uses none of it, and libpng prints to the terminal about each that it dislikes.

    Args:
        data: bytes of an image file of any format, uint8 (N,); of others it is returned as it is.
    """
    view = np.ascontiguousarray(data).data
    if bytes(view[:8]) != _SIGNATURE:
        return data
    parts, start, at = [view[:8]], 8, 8  # from `start` on all is kept so far
    for _ in range(_MAX_CHUNKS):
        if at + 8 > len(view):
            break
        kind, end = bytes(view[at + 4 : at + 8]), at + 12 + int.from_bytes(view[at : at + 4], "big")
        critical = kind[:1].isupper()
        if not critical and kind != b"tRNS":
            parts.append(view[start:at])
            start = end
        at = end
    if len(parts) == 1:
        return data
    return np.frombuffer(b"".join([*parts, view[start:]]), np.uint8)
