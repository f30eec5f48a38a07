# SPDX-License-Identifier: Apache-2.0
"""sensor_msgs images <-> images in memory.

Eight-bit encodings are viewed where they lie, whatever their row stride. All others go through a
library, chosen once at import: rosbags-image where it is installed, else cv_bridge. In this order
because cv_bridge's compiled module is tied to the NumPy it was built with and may not survive
another (vision_opencv issue 535), which cannot be found out without loading it.
"""

from __future__ import annotations

import array
import importlib
import io
from collections.abc import Callable

import cv2
import numpy as np
from PIL import Image as PillowImage
from sensor_msgs.msg import CompressedImage
from sensor_msgs.msg import Image as ImageMsg

from ssd_ros.image import ChannelOrder, Image
from ssd_ros.model.config import INPUT_SIZE

_IN_PLACE: dict[str, tuple[int, ChannelOrder]] = {
    "rgb8": (3, "rgb"),
    "bgr8": (3, "bgr"),
    "8UC3": (3, "bgr"),
    "rgba8": (4, "rgba"),
    "bgra8": (4, "bgra"),
    "mono8": (1, "mono"),
    "8UC1": (1, "mono"),
}
# Bytes a pixel of the encodings that the library converts, to check sizes before it sees them.
_CONVERTED = {
    **dict.fromkeys(("bayer_rggb8", "bayer_bggr8", "bayer_gbrg8", "bayer_grbg8"), 1),
    **dict.fromkeys(("bayer_rggb16", "bayer_bggr16", "bayer_gbrg16", "bayer_grbg16"), 2),
    **dict.fromkeys(("mono16", "yuv422", "yuv422_yuy2", "uyvy", "yuyv"), 2),
    **dict.fromkeys(("bgr16", "rgb16"), 6),
    **dict.fromkeys(("bgra16", "rgba16"), 8),
}
_OLD_NAMES = {"uyvy": "yuv422", "yuyv": "yuv422_yuy2"}  # cv_bridge does not know the new ones
# Frames are taken as they lie in the sensor; image_transport does not turn them either.
_DECODE = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
_DECODE_REDUCED = {
    2: cv2.IMREAD_REDUCED_COLOR_2 | cv2.IMREAD_IGNORE_ORIENTATION,
    4: cv2.IMREAD_REDUCED_COLOR_4 | cv2.IMREAD_IGNORE_ORIENTATION,
    8: cv2.IMREAD_REDUCED_COLOR_8 | cv2.IMREAD_IGNORE_ORIENTATION,
}
MAX_PIXELS = 2**26  # a message that claims a larger image is broken, not a camera


class ImageError(ValueError):
    """An image message that contradicts itself or cannot be read; the message says why."""


def image_from_msg(message: ImageMsg) -> Image:
    """The image of an Image message, without a copy where the encoding is 8-bit colour or grey.

    Raises:
        ImageError: size, step, data and encoding do not fit together, or the encoding is unknown.
    """
    encoding = message.encoding
    in_place = _IN_PLACE.get(encoding)
    pixel_bytes = in_place[0] if in_place else _CONVERTED.get(encoding)
    if pixel_bytes is None:
        known = ", ".join((*_IN_PLACE, *_CONVERTED))
        raise ImageError(f"encoding '{encoding[:40]}' is not supported; supported are {known}")
    height, width, step = message.height, message.width, message.step
    if not (height and width) or height * width > MAX_PIXELS:
        raise ImageError(f"size is {width}x{height}, expected 1 to {MAX_PIXELS} pixels")
    if step < width * pixel_bytes:
        raise ImageError(
            f"step is {step}, expected at least {width * pixel_bytes} for {width} pixels {encoding}"
        )
    if len(message.data) != step * height:
        raise ImageError(
            f"data has {len(message.data)} bytes, expected {step * height} "
            f"(step {step} x height {height})"
        )
    if in_place is None:
        return Image(_to_bgr(message, width * pixel_bytes), "bgr")
    channels, order = in_place
    pixels = np.ndarray((height, width, channels), np.uint8, message.data, 0, (step, channels, 1))
    return Image(pixels, order)


def image_from_compressed_msg(message: CompressedImage) -> Image:
    """The image of a CompressedImage message (JPEG, PNG and what else OpenCV reads).

    A JPEG much larger than the network's input is decoded at half, a quarter or an eighth of its
    size, which libjpeg does faster than in full; the image keeps its real size for the boxes.

    Raises:
        ImageError: the data are not a whole image.
    """
    data = np.frombuffer(message.data, np.uint8)
    try:
        with PillowImage.open(io.BytesIO(message.data)) as header:  # reads the header alone
            size, kind = header.size, header.format
    except Exception as error:  # Pillow's plugins raise nearly anything at broken data
        raise ImageError(f"data ({len(data)} bytes) are not an image: {error}"[:200]) from None
    if size[0] * size[1] > MAX_PIXELS:
        raise ImageError(f"size is {size[0]}x{size[1]}, expected at most {MAX_PIXELS} pixels")
    # Drivers pad the end; the marker cannot occur inside the image's own data.
    if kind == "JPEG" and b"\xff\xd9" not in data[-4096:].tobytes():
        raise ImageError(f"JPEG of {len(data)} bytes is cut off: it has no end marker")
    reduction = max(
        (r for r in _DECODE_REDUCED if kind == "JPEG" and min(size) >= r * INPUT_SIZE), default=1
    )
    try:
        pixels = cv2.imdecode(data, _DECODE_REDUCED.get(reduction, _DECODE))
    except cv2.error as error:
        raise ImageError(f"{kind} cannot be decoded: {error.err}") from None
    if pixels is None:
        raise ImageError(f"{kind} of {len(data)} bytes cannot be decoded")
    return Image(pixels, "bgr", size if reduction > 1 else None)


def fill_image(message: ImageMsg, pixels: np.ndarray, encoding: str) -> ImageMsg:
    """Puts 8-bit pixels (H, W, C) or (H, W) into a message; its header is left alone."""
    pixels = np.ascontiguousarray(pixels)
    message.height, message.width = pixels.shape[:2]
    message.encoding = encoding
    message.step = pixels.strides[0]
    message.is_bigendian = 0
    message.data = as_array(pixels)
    return message


def as_array(data: np.ndarray) -> array.array:
    """Bytes in the one form that rclpy takes over as it is; others it walks element by element."""
    result = array.array("B")
    result.frombytes(data.data.cast("B"))
    return result


def _to_bgr(message: ImageMsg, row_bytes: int) -> np.ndarray:
    """Conversion by the library, of rows without padding (rosbags-image does not know `step`)."""
    packed = ImageMsg(
        header=message.header,
        height=message.height,
        width=message.width,
        encoding=_OLD_NAMES.get(message.encoding, message.encoding),
        is_bigendian=1 if message.is_bigendian else 0,
        step=row_bytes,
    )
    rows = np.frombuffer(message.data, np.uint8).reshape(message.height, message.step)
    packed.data = as_array(np.ascontiguousarray(rows[:, :row_bytes]))
    if _convert is None:
        raise ImageError(
            f"encoding '{message.encoding}' needs rosbags-image (pip) or cv_bridge (apt), "
            "and neither is installed"
        )
    try:
        pixels = np.asarray(_convert(packed))
    except Exception as error:  # libraries raise their own kinds, all of them mean one bad message
        raise ImageError(
            f"encoding '{message.encoding}' cannot be converted: {error}"[:200]
        ) from None
    return pixels


def _converter() -> Callable[[ImageMsg], np.ndarray] | None:
    try:
        rosbags_image = importlib.import_module("rosbags.image")
    except ImportError:
        pass
    else:
        return lambda message: rosbags_image.message_to_cvimage(message, "bgr8")
    try:
        bridge = importlib.import_module("cv_bridge").CvBridge()
    except ImportError:
        return None
    return lambda message: bridge.imgmsg_to_cv2(message, "bgr8")


_convert = _converter()
