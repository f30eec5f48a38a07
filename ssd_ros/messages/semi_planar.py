# SPDX-License-Identifier: Apache-2.0
"""Semi-planar YUV, as hardware decoders send it: a plane of Y, then one of pairs of U and V.

Values are those of ITU-R BT.601 with Y from 16 to 235, as of the packed YUV encodings.
"""

from __future__ import annotations

import cv2
import numpy as np

from ssd_ros.image import ImageError

# OpenCV's conversions of the encodings in which four pixels share a U and a V.
_QUARTER = {"nv12": cv2.COLOR_YUV2BGR_NV12, "nv21": cv2.COLOR_YUV2BGR_NV21}
ENCODINGS = (*_QUARTER, "nv24")
# B, G and R from Y, U, V and 1.
_FULL_TO_BGR = np.array(
    [
        [1.164, 2.018, 0.0, -1.164 * 16 - 2.018 * 128],
        [1.164, -0.391, -0.813, -1.164 * 16 + (0.391 + 0.813) * 128],
        [1.164, 0.0, 1.596, -1.164 * 16 - 1.596 * 128],
    ]
)


def to_bgr(encoding: str, data: np.ndarray, width: int, height: int, step: int) -> np.ndarray:
    """The image as BGR uint8 (height, width, 3).

    Args:
        encoding: of ENCODINGS.
        data: uint8 (N,).
        width, height: in pixels.
        step: bytes from one row of Y to the next. Where the data are as long as without padding it
            is not looked at: drivers write the bytes of all planes there, divided by the height.

    Raises:
        ImageError: the data have another length, or a side is odd where four pixels share a colour.
    """
    quarter = encoding in _QUARTER
    if quarter and (width % 2 or height % 2):
        raise ImageError(f"size is {width}x{height}, expected even numbers for {encoding}")
    rows = height * 3 // 2 if quarter else height * 3
    stride = width if len(data) == rows * width else step
    if stride < width or len(data) != rows * stride:
        raise ImageError(
            f"data has {len(data)} bytes, expected {rows * max(step, width)} for {encoding} "
            f"(width {width}, height {height}, step {step})"
        )
    brightness = data[: height * stride].reshape(height, stride)[:, :width]
    if quarter:
        chroma = data[height * stride :].reshape(height // 2, stride)[:, :width]
        pairs = np.ascontiguousarray(chroma).reshape(height // 2, width // 2, 2)
        return cv2.cvtColorTwoPlane(np.ascontiguousarray(brightness), pairs, _QUARTER[encoding])
    chroma = data[height * stride :].reshape(height, 2 * stride)[:, : 2 * width]
    yuv = np.dstack((brightness, chroma.reshape(height, width, 2)))
    return cv2.transform(yuv, _FULL_TO_BGR)
