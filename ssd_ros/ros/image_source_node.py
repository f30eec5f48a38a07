# SPDX-License-Identifier: Apache-2.0
"""Publishes a folder of images, a video or a webcam as a camera topic."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Sequence
from typing import Any

from rclpy.duration import Duration
from rclpy.executors import ExternalShutdownException
from rclpy.node import Node
from rclpy.qos import QoSProfile
from rclpy.qos_overriding_options import QoSOverridingOptions
from sensor_msgs.msg import CameraInfo, CompressedImage
from sensor_msgs.msg import Image as ImageMsg
from std_msgs.msg import Header

from ssd_ros.image import ImageError
from ssd_ros.io.sources import open_source
from ssd_ros.messages.images import fill_compressed_image, fill_image
from ssd_ros.ros import camera_info, process
from ssd_ros.ros.executor import answer_always
from ssd_ros.ros.failures import RecurringProblems
from ssd_ros.ros.parameter_table import IMAGE_SOURCE, check_choices
from ssd_ros.ros.parameters import declare, warn_of_unknown
from ssd_ros.ros.topics import TopicResolver, source_topics

WARN_EVERY = 10.0  # seconds between two warnings about images that cannot be read


class ImageSource(Node):
    """A camera made of files: `image_raw`, or `image_raw/compressed`, at a steady rate.

    Given a calibration or a field of view, it also publishes `camera_info`, before each image.
    What is published besides `image_raw` is beside that, wherever a remapping rule moves it.

    Raises:
        ValueError, OSError: a parameter is out of range, or the source cannot be opened.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__("image_source", **options)
        source = str(self._declare("source"))
        rate = self._declare("rate")
        loop = self._declare("loop")
        self._wait_for = self._declare("wait_for_subscribers", 0 if loop else 1)
        transport = self._declare("transport")
        self._frame_id = self._declare("frame_id")
        self._quality = self._declare("jpeg_quality")
        self._fov = self._declare("fov")
        calibration = self._declare("camera_info_url")
        self._info = camera_info.from_file(calibration) if calibration else None
        if not source:
            raise ValueError("parameter 'source' is empty, expected a folder, a video or a webcam")
        self._frames = iter(open_source(source, loop))
        overrides = QoSOverridingOptions.with_default_policies()
        names = source_topics(TopicResolver(self))
        self._raw = self._compressed = None
        if transport in ("raw", "both"):
            self._raw = self.create_publisher(
                ImageMsg, names.image, QoSProfile(depth=10), qos_overriding_options=overrides
            )
        if transport in ("compressed", "both"):
            self._compressed = self.create_publisher(
                CompressedImage,
                names.compressed,
                QoSProfile(depth=10),
                qos_overriding_options=overrides,
            )
        self._calibrations = None
        if self._info is not None or self._fov:
            self._calibrations = self.create_publisher(CameraInfo, names.camera_info, 10)
        self._publishers_in_use = [p for p in (self._raw, self._compressed) if p is not None]
        self.published = 0
        self._unreadable = 0  # images since the last warning
        self._warned_at = -math.inf
        self._problems = RecurringProblems()
        self._finished = False
        self._period = 1 / rate
        answer_always(self, self.report_failure)
        warn_of_unknown(self, IMAGE_SOURCE)
        topics = ", ".join(f"'{p.topic_name}'" for p in self._publishers_in_use)
        self.get_logger().info(f"publishing '{source}' on {topics} at {rate:g} Hz")

    def start(self) -> None:
        """Publishes from now on."""
        self.create_timer(self._period, self._publish_next)

    def report_failure(self, text: str) -> None:
        """Logs what went wrong in a callback."""
        if self._problems.begins_now(text):
            self.get_logger().error(text)

    def close(self) -> None:
        """At the end of the source, waits until reliable subscribers have the last images."""
        if not self._finished:
            return
        for publisher in self._publishers_in_use:
            publisher.wait_for_all_acked(Duration(seconds=5))
        self.get_logger().info(f"published {self.published} images, done")

    def _declare(self, name: str, default: Any = None) -> Any:
        """The value of a parameter of the table, checked."""
        # `source:=0` is a webcam: a number where a string is declared.
        dynamic = name == "source"
        value = declare(self, name, IMAGE_SOURCE[name], default, True, dynamic)
        check_choices(IMAGE_SOURCE, {name: value})
        return value

    def _note_unreadable(self, reason: str) -> None:
        self._unreadable += 1
        if time.monotonic() - self._warned_at < WARN_EVERY:
            return
        count = self._unreadable
        since = f" ({count} images in {WARN_EVERY:g} s)" if count > 1 else ""
        self.get_logger().warning(f"{reason}{since}")
        self._warned_at, self._unreadable = time.monotonic(), 0

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
            self._note_unreadable(str(error))
            return
        header = Header(stamp=self.get_clock().now().to_msg(), frame_id=self._frame_id)
        if self._calibrations is not None:
            self._calibrations.publish(self._camera_info(header, *pixels.shape[1::-1]))
        if self._raw is not None:
            self._raw.publish(fill_image(ImageMsg(header=header), pixels, "bgr8"))
        if self._compressed is not None:
            message = CompressedImage(header=header)
            self._compressed.publish(fill_compressed_image(message, pixels, self._quality))
        self.published += 1

    def _camera_info(self, header: Header, width: int, height: int) -> CameraInfo:
        """The file's calibration, or that of the field of view for an image of this size."""
        info = self._info or camera_info.from_field_of_view(width, height, self._fov)
        info.header = header
        return info


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the node as a process; `ssd_ros.ros.commands` is the entry point."""
    return process.run("image_source", ImageSource, arguments)


if __name__ == "__main__":
    from ssd_ros.ros import commands  # with --help, and quiet when it is interrupted

    sys.exit(commands.image_source())
