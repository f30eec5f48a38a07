# SPDX-License-Identifier: Apache-2.0
"""The topics beside a camera's image topic, named as image_transport names them. No rclpy."""

from __future__ import annotations

COMPRESSED_SUFFIX = "/compressed"  # of the topic with the same images as CompressedImage


def compressed_topic(image: str) -> str:
    """The topic of the same images as JPEG or PNG.

    Args:
        image: name of the image topic, which has no suffix.
    """
    return image + COMPRESSED_SUFFIX


def camera_info_topic(image: str) -> str:
    """The topic of the calibration of the camera that publishes an image topic.

    Args:
        image: as in `compressed_topic`, resolved: remapping may move it to another namespace.
    """
    return f"{image.rpartition('/')[0]}/camera_info"
