# SPDX-License-Identifier: Apache-2.0
"""sensor_msgs images <-> images in memory.

A message is any object with the fields of sensor_msgs/Image or CompressedImage: of rclpy's classes,
or of those of a library that reads bags without ROS.

Pixels of 8-bit encodings are used in place, whatever their row stride. Grey of 16 bits or floating
point is scaled, and semi-planar YUV converted, by this package. All other encodings are converted
by a library, chosen once at import: rosbags-image if it is installed, else cv_bridge. In this order
because cv_bridge's compiled module is tied to the NumPy it was built with and can crash with
another (vision_opencv issue 535), which cannot be found out without loading it.
"""

from __future__ import annotations

import array
import importlib
import io
from collections.abc import Callable
from types import SimpleNamespace
from typing import TYPE_CHECKING

import cv2
import numpy as np
from PIL import Image as PillowImage

from ssd_ros import bit_depth, jpeg
from ssd_ros.image import CHANNELS, ChannelOrder, Image, ImageError
from ssd_ros.messages import semi_planar

if TYPE_CHECKING:
    from sensor_msgs.msg import CompressedImage
    from sensor_msgs.msg import Image as ImageMsg

_IN_PLACE: dict[str, ChannelOrder] = {
    "rgb8": "rgb",
    "bgr8": "bgr",
    "8UC3": "bgr",
    "rgba8": "rgba",
    "bgra8": "bgra",
    "8UC4": "bgra",
    "mono8": "mono",
    "8UC1": "mono",
}
# NumPy's types of the grey encodings that are scaled to 8 bits.
_SCALED = {"mono16": "u2", "16UC1": "u2", "32FC1": "f4"}
# Bytes per pixel of the encodings that the library converts, to check sizes before it runs.
_CONVERTED = {
    **dict.fromkeys(("bayer_rggb8", "bayer_bggr8", "bayer_gbrg8", "bayer_grbg8"), 1),
    **dict.fromkeys(("bayer_rggb16", "bayer_bggr16", "bayer_gbrg16", "bayer_grbg16"), 2),
    **dict.fromkeys(("yuv422", "yuv422_yuy2", "uyvy", "yuyv"), 2),
    **dict.fromkeys(("bgr16", "rgb16"), 6),
    **dict.fromkeys(("bgra16", "rgba16"), 8),
}
_OLD_NAMES = {"uyvy": "yuv422", "yuyv": "yuv422_yuy2"}  # cv_bridge does not know the new ones
# EXIF orientation is ignored: boxes refer to the image as sent, as in image_transport.
_DECODE = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
_DECODE_REDUCED = {
    2: cv2.IMREAD_REDUCED_COLOR_2 | cv2.IMREAD_IGNORE_ORIENTATION,
    4: cv2.IMREAD_REDUCED_COLOR_4 | cv2.IMREAD_IGNORE_ORIENTATION,
    8: cv2.IMREAD_REDUCED_COLOR_8 | cv2.IMREAD_IGNORE_ORIENTATION,
}
MAX_PIXELS = 2**26  # a message that claims a larger image is broken, not a camera
# Compressed formats. OpenCV could decode more, with decoders that are hardly tested.
FORMATS = ("JPEG", "PNG", "WEBP", "TIFF", "BMP")


def image_from_msg(message: ImageMsg, mono16_range: str = bit_depth.PERCENTILES) -> Image:
    """The image in a sensor_msgs/Image, without a copy if the encoding is 8-bit colour or grey.

    Args:
        mono16_range: see `bit_depth.to_8_bits`.

    Raises:
        ImageError: size, step, data and encoding are inconsistent, or the encoding is unknown.
    """
    encoding, height, width = message.encoding, message.height, message.width
    if not (height and width) or height * width > MAX_PIXELS:
        raise ImageError(f"size is {width}x{height}, expected 1 to {MAX_PIXELS} pixels")
    if encoding in semi_planar.ENCODINGS:
        data = np.frombuffer(message.data, np.uint8)
        return Image(semi_planar.to_bgr(encoding, data, width, height, message.step), "bgr")
    order = _IN_PLACE.get(encoding)
    pixel_bytes = _bytes_per_pixel(encoding)
    _check_size(message, pixel_bytes)
    if encoding in _SCALED:
        kind = np.dtype(_SCALED[encoding]).newbyteorder(">" if message.is_bigendian else "<")
        grey = np.ndarray((height, width), kind, message.data, 0, (message.step, pixel_bytes))
        return Image(bit_depth.to_8_bits(grey.astype(kind.newbyteorder("=")), mono16_range), "mono")
    if order is None:
        return Image(_to_bgr(message, width * pixel_bytes), "bgr")
    shape, strides = (height, width, pixel_bytes), (message.step, pixel_bytes, 1)
    return Image(np.ndarray(shape, np.uint8, message.data, 0, strides), order)


def _bytes_per_pixel(encoding: str) -> int:
    """Bytes per pixel of an encoding of one plane.

    Raises:
        ImageError: the encoding is not supported.
    """
    if encoding in _IN_PLACE:
        return CHANNELS[_IN_PLACE[encoding]]
    if encoding in _SCALED:
        return np.dtype(_SCALED[encoding]).itemsize
    if encoding in _CONVERTED:
        return _CONVERTED[encoding]
    known = ", ".join((*_IN_PLACE, *_SCALED, *semi_planar.ENCODINGS, *_CONVERTED))
    raise ImageError(
        f"encoding '{encoding[:40]}' is not supported: set the camera driver to one of {known}"
    )


def _check_size(message: ImageMsg, pixel_bytes: int) -> None:
    """Raises ImageError where step and data do not fit the image's size."""
    width, step, expected = message.width, message.step, message.step * message.height
    if step < width * pixel_bytes:
        raise ImageError(
            f"step is {step}, expected at least {width * pixel_bytes} for {width} pixels "
            f"{message.encoding}"
        )
    if len(message.data) != expected:
        raise ImageError(
            f"data has {len(message.data)} bytes, expected {expected} "
            f"(step {step} x height {message.height})"
        )


def image_from_compressed_msg(
    message: CompressedImage,
    min_size: int | None = None,
    mono16_range: str = bit_depth.PERCENTILES,
) -> Image:
    """The image in a sensor_msgs/CompressedImage, in one of FORMATS.

    Args:
        message: its data; `format` is not read, because drivers disagree about its content.
        min_size: pixels that the shorter side needs, e.g. the network's input size. A JPEG that
            stays at least this large is decoded at a half, a quarter or an eighth of its size,
            which is faster, and what `image.warp` makes of the full one; the image's width and
            height are still those of the full image.
            None decodes at full size.
        mono16_range: of 16-bit grey images, see `bit_depth.to_8_bits`.

    Raises:
        ImageError: the data are not an image, or cut off, or decoding it would take too long.
    """
    data = np.frombuffer(message.data, np.uint8)
    try:
        # Reads only the header.
        with PillowImage.open(io.BytesIO(message.data), formats=FORMATS) as header:
            size, kind = header.size, header.format
    except Exception as error:  # Pillow's plugins raise nearly anything on broken data
        raise ImageError(
            f"cannot decode image data ({len(data)} bytes), expected {', '.join(FORMATS)}: {error}"
        ) from None
    if size[0] * size[1] > MAX_PIXELS:
        raise ImageError(f"size is {size[0]}x{size[1]}, expected at most {MAX_PIXELS} pixels")
    is_jpeg = jpeg.is_jpeg(data.data)
    if is_jpeg:
        jpeg.check(data.data, size)
    reduction = 1
    if is_jpeg and min_size:
        reduction = max((r for r in _DECODE_REDUCED if min(size) >= r * min_size), default=1)
    try:
        if reduction > 1:
            pixels = cv2.imdecode(data, _DECODE_REDUCED[reduction])
        else:
            pixels = bit_depth.decode(data, _DECODE, mono16_range)
    except cv2.error as error:
        raise ImageError(f"cannot decode {kind} ({len(data)} bytes): {error.err}") from None
    if pixels is None:
        raise ImageError(f"cannot decode {kind} ({len(data)} bytes)")
    return Image(pixels, "bgr", size if reduction > 1 else None)


def fill_image(message: ImageMsg, pixels: np.ndarray, encoding: str) -> ImageMsg:
    """Stores 8-bit pixels (H, W, C) or (H, W) in a message and returns it; keeps its header."""
    pixels = np.ascontiguousarray(pixels)
    message.height, message.width = pixels.shape[:2]
    message.encoding = encoding
    message.step = pixels.strides[0]
    message.is_bigendian = 0
    message.data = as_array(pixels)
    return message


def fill_compressed_image(
    message: CompressedImage, pixels: np.ndarray, quality: int
) -> CompressedImage:
    """Stores BGR pixels (H, W, 3) as JPEG in a message and returns it; keeps its header.

    Args:
        quality: of the JPEG, 1 to 100.
    """
    return fill_jpeg(message, cv2.imencode(".jpg", pixels, (cv2.IMWRITE_JPEG_QUALITY, quality))[1])


def fill_jpeg(message: CompressedImage, jpeg: np.ndarray) -> CompressedImage:
    """Stores a JPEG (N,) of BGR pixels in a message and returns it; keeps its header."""
    message.format = "bgr8; jpeg compressed bgr8"
    message.data = as_array(jpeg)
    return message


def as_array(data: np.ndarray) -> array.array:
    """Bytes in the only type that rclpy stores as it is; others it copies element by element."""
    result = array.array("B")
    result.frombytes(data.data.cast("B"))
    return result


def _to_bgr(message: ImageMsg, row_bytes: int) -> np.ndarray:
    """Conversion by the library, of rows without padding (rosbags-image ignores `step`)."""
    packed = SimpleNamespace(
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
            f"encoding '{message.encoding}' needs rosbags-image or cv_bridge; neither is "
            "installed: pip install rosbags-image, or apt install ros-$ROS_DISTRO-cv-bridge"
        )
    try:
        return np.asarray(_convert(packed))
    except Exception as error:  # of the library's own types; all of them mean one bad message
        raise ImageError(f"cannot convert encoding '{message.encoding}': {error}") from None


def _converter() -> Callable[[SimpleNamespace], np.ndarray] | None:
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
