# SPDX-License-Identifier: Apache-2.0
"""Publishes a folder of images, a video or a webcam as a camera topic."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from rcl_interfaces.msg import ParameterDescriptor
from rclpy.duration import Duration
from rclpy.executors import ExternalShutdownException
from rclpy.node import Node
from rclpy.qos import QoSProfile
from rclpy.qos_overriding_options import QoSOverridingOptions
from sensor_msgs.msg import CompressedImage
from sensor_msgs.msg import Image as ImageMsg
from std_msgs.msg import Header

from ssd_ros.image import ImageError
from ssd_ros.io.sources import open_source
from ssd_ros.messages.images import fill_compressed_image, fill_image
from ssd_ros.ros import process
from ssd_ros.ros.descriptors import set_bounds


class ImageSource(Node):
    """A camera made of files: `image_raw`, or `image_raw/compressed`, at a steady rate.

    Raises:
        ValueError, OSError: a parameter is out of range, or the source cannot be opened.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__("image_source", **options)
        source = str(
            self._parameter(
                "source",
                "",
                "A folder of images, an image, a video file, a webcam (a number, or "
                "/dev/videoN), or a stream's address.",
            )
        )
        rate = self._parameter("rate", 30.0, "Images a second.", bounds=(0.01, 1000.0))
        loop = self._parameter("loop", True, "Start again at the end, for ever.")
        self._wait_for = self._parameter(
            "wait_for_subscribers",
            0 if loop else 1,
            "Publish the first image when each topic has so many subscribers; 1 by default where "
            "there is but one round.",
            bounds=(0, 1000),
        )
        transport = self._parameter("transport", "raw", "raw, compressed (JPEG) or both.")
        self._frame_id = self._parameter("frame_id", "camera", "Optical frame of the images.")
        self._quality = self._parameter(
            "jpeg_quality", 90, "Of compressed images.", bounds=(1, 100)
        )
        if transport not in ("raw", "compressed", "both"):
            raise ValueError(f"transport must be raw, compressed or both, got '{transport}'")
        if not source:
            raise ValueError("parameter 'source' is empty, expected a folder, a video or a webcam")
        self._frames = iter(open_source(source, loop))
        overrides = QoSOverridingOptions.with_default_policies()
        self._raw = self._compressed = None
        if transport in ("raw", "both"):
            self._raw = self.create_publisher(
                ImageMsg, "image_raw", QoSProfile(depth=10), qos_overriding_options=overrides
            )
        if transport in ("compressed", "both"):
            self._compressed = self.create_publisher(
                CompressedImage,
                "image_raw/compressed",
                QoSProfile(depth=10),
                qos_overriding_options=overrides,
            )
        self._publishers_in_use = [p for p in (self._raw, self._compressed) if p is not None]
        self.published = 0
        self._finished = False
        self._period = 1 / rate
        topics = ", ".join(f"'{p.topic_name}'" for p in self._publishers_in_use)
        self.get_logger().info(f"publishing '{source}' on {topics} at {rate:g} Hz")

    def start(self) -> None:
        """Publishes from now on."""
        self.create_timer(self._period, self._publish_next)

    def close(self) -> None:
        """At the end of the source, waits until reliable subscribers have the last images."""
        if not self._finished:
            return
        for publisher in self._publishers_in_use:
            publisher.wait_for_all_acked(Duration(seconds=5))
        self.get_logger().info(f"published {self.published} images, done")

    def _parameter(
        self, name: str, default: Any, text: str, bounds: tuple[float, float] | None = None
    ) -> Any:
        # `source:=0` is a webcam: a number where a string is declared.
        described = ParameterDescriptor(
            description=text, read_only=True, dynamic_typing=name == "source"
        )
        set_bounds(described, bounds, type(default))
        return self.declare_parameter(name, default, described).value

    def _seen(self) -> bool:
        counts = (p.get_subscription_count() for p in self._publishers_in_use)
        return min(counts) >= self._wait_for

    def _publish_next(self) -> None:
        if not self.published and not self._seen():
            return
        try:
            pixels = next(self._frames).read().to("bgr").pixels
        except StopIteration:
            self._finished = True
            raise ExternalShutdownException from None
        except ImageError as error:  # one broken file in a folder
            self.get_logger().warning(str(error))
            return
        header = Header(stamp=self.get_clock().now().to_msg(), frame_id=self._frame_id)
        if self._raw is not None:
            self._raw.publish(fill_image(ImageMsg(header=header), pixels, "bgr8"))
        if self._compressed is not None:
            message = CompressedImage(header=header)
            self._compressed.publish(fill_compressed_image(message, pixels, self._quality))
        self.published += 1


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point of `ros2 run ssd_ros image_source`."""
    return process.run("image_source", ImageSource, arguments)


if __name__ == "__main__":
    sys.exit(main())
