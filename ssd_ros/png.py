# SPDX-License-Identifier: Apache-2.0
"""PNG data without what no pixel depends on, and only if they are whole."""

from __future__ import annotations

import numpy as np

from ssd_ros.image import ImageError

MAX_CHUNKS = 100_000  # the largest images have some 25,000; each costs a microsecond
_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_AROUND = 12  # bytes of a chunk besides its content: length, kind and checksum


def without_extras(data: np.ndarray) -> np.ndarray:
    """PNG data without profiles, texts and all else but colours, transparency and pixels.

    OpenCV uses none of it, and libpng prints to the terminal about each that it dislikes.

    Args:
        data: bytes of an image file of any format, uint8 (N,); of others it is returned as it is.

    Raises:
        ImageError: a chunk is longer than what is left, so that the PNG is broken or cut off, or
            there are more than MAX_CHUNKS. OpenCV 5 allocates what a chunk claims, up to 4 GB.
    """
    view = np.ascontiguousarray(data).data
    if bytes(view[:8]) != _SIGNATURE:
        return data
    parts, start, at = [view[:8]], 8, 8  # from `start` on all is kept so far
    for _ in range(MAX_CHUNKS):
        if at + _AROUND > len(view):
            break
        length, kind = int.from_bytes(view[at : at + 4], "big"), bytes(view[at + 4 : at + 8])
        end = at + _AROUND + length
        if end > len(view):
            raise ImageError(
                f"PNG of {len(view)} bytes is cut off or broken: its chunk at byte {at} has "
                f"{_AROUND + length}"
            )
        critical = kind[:1].isupper()
        if not critical and kind != b"tRNS":
            parts.append(view[start:at])
            start = end
        at = end
    else:
        raise ImageError(f"PNG has more than {MAX_CHUNKS} chunks")
    if len(parts) == 1:
        return data
    return np.frombuffer(b"".join([*parts, view[start:]]), np.uint8)
