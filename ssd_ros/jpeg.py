# SPDX-License-Identifier: Apache-2.0
"""Whether JPEG data are whole, and quick enough to decode, judged by their structure."""

from __future__ import annotations

import re

from ssd_ros.image import ImageError

# Pixels times scans: about a second. A progressive image needs ten scans.
MAX_SCANNED_PIXELS = 2**29
MAX_SEGMENTS = 1000  # an image has some ten, and twenty more for an ICC profile of a megabyte
# In the data of a scan 0xff is followed by 0 or by a restart marker.
_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
_TEM, _SOI, _EOI, _SOS = 0x01, 0xD8, 0xD9, 0xDA


def is_jpeg(data: memoryview) -> bool:
    """Whether data begin as a JPEG does."""
    return bytes(data[:3]) == b"\xff\xd8\xff"


def check(data: memoryview, size: tuple[int, int]) -> None:
    """Checks a JPEG before it is decoded; OpenCV 4 takes one that is cut off as whole.

    Args:
        data: bytes that may have any padding after the image's end.
        size: width and height in pixels.

    Raises:
        ImageError: the image has no end, too many segments, or too many scans for its size.
    """
    scans, most = _count_scans(data), MAX_SCANNED_PIXELS // (size[0] * size[1])
    if scans > most:
        raise ImageError(
            f"JPEG of {size[0]}x{size[1]} has {scans} scans, expected at most {most} for this size"
        )


def _count_scans(data: memoryview) -> int:
    """How many scans a JPEG has: 1, in a progressive one about ten. Each costs a whole pass.

    Segments are followed, because an embedded preview has an end marker of its own.
    """
    position, scans = 2, 0
    for _ in range(MAX_SEGMENTS):
        found = _MARKER.search(data, position)
        if found is None:
            raise ImageError(f"JPEG of {len(data)} bytes is cut off: it has no end marker")
        position, marker = found.end(), data[found.end() - 1]
        if marker == _EOI:
            return scans
        scans += marker == _SOS
        if marker not in (_TEM, _SOI):
            position += int.from_bytes(data[position : position + 2], "big")
    raise ImageError(f"JPEG has more than {MAX_SEGMENTS} segments")
