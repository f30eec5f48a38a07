# SPDX-License-Identifier: Apache-2.0
"""Image messages that are broken in one of many ways."""

import array
import random

import cv2
import numpy as np
from made_images import made_image
from sensor_msgs.msg import CompressedImage
from sensor_msgs.msg import Image as ImageMsg

HUGE = 2**32 - 1
ENCODINGS = """
    rgb8 bgr8 rgba8 bgra8 mono8 8UC1 8UC3 mono16 bgr16 rgb16 bgra16 rgba16 yuv422 yuv422_yuy2 uyvy
    yuyv bayer_rggb8 bayer_bggr8 bayer_gbrg8 bayer_grbg8 bayer_rggb16 bayer_bggr16 bayer_gbrg16
    bayer_grbg16 8UC4 16UC1 32FC1 nv12 nv21 nv24
""".split()
UNKNOWN_ENCODINGS = ["", "bgr", "BGR8", "64FC1", "8UC2", "NV21", "bgr8\n", "jpeg", "☃", "x" * 9999]


def bad_image(chance: random.Random) -> ImageMsg:
    """An Image message that is broken in one of many ways."""
    width, height = chance.randint(1, 64), chance.randint(1, 64)
    size, step = width * height * 3, width * 3
    encoding, data = "bgr8", chance.randbytes(size)
    match chance.randrange(8):
        case 0:
            step = chance.choice((0, 1, step - 1, step + 1, HUGE))
        case 1:
            data = data[: chance.randrange(size)]
        case 2:
            data += chance.randbytes(chance.randint(1, 1000))
        case 3:
            width, height = chance.choice(((0, height), (width, 0), (0, 0)))
        case 4:
            width, height = chance.choice(((HUGE, height), (width, HUGE), (HUGE, HUGE)))
        case 5:
            encoding = chance.choice(UNKNOWN_ENCODINGS)
        case 6:
            data = b""
        case 7:
            encoding = chance.choice(ENCODINGS)
            width, height, step = (chance.getrandbits(chance.choice((2, 8, 32))) for _ in range(3))
    return ImageMsg(
        height=height,
        width=width,
        step=step,
        encoding=encoding,
        is_bigendian=chance.getrandbits(8),
        data=array.array("B", data),
    )


def bad_compressed_image(chance: random.Random) -> CompressedImage:
    """A CompressedImage message that is broken in one of many ways."""
    suffix = chance.choice((".jpg", ".jpg", ".png", ".bmp", ".tiff", ".webp", ".ppm"))
    data = bytearray(cv2.imencode(suffix, made_image(chance.getrandbits(32), 64, 48))[1])
    match chance.randrange(6):
        case 0:
            data = data[: chance.randrange(len(data))]
        case 1:
            data.clear()
        case 2:
            data = bytearray(chance.randbytes(chance.randrange(1000)))
        case 3:  # broken here and there, its head too
            for _ in range(chance.randint(1, 200)):
                data[chance.randrange(len(data))] = chance.getrandbits(8)
        case 4:  # its middle is gone
            del data[len(data) // 3 : chance.randrange(len(data) // 3, len(data))]
        case 5:
            data = bytearray(boastful_jpeg(chance.choice((0, 9000, 65500))))
    named = chance.choice(("jpeg", "png", "", "bgr8; jpeg compressed bgr8", "☃"))
    return CompressedImage(format=named, data=array.array("B", bytes(data)))


def boastful_jpeg(side: int) -> bytes:
    """A small JPEG whose head claims so many lines and columns."""
    data = cv2.imencode(".jpg", np.zeros((16, 16, 3), np.uint8))[1].tobytes()
    size = data.index(b"\xff\xc0") + 5
    return data[:size] + side.to_bytes(2, "big") * 2 + data[size + 4 :]


BROKEN = {"raw": bad_image, "compressed": bad_compressed_image}
