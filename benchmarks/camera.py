# SPDX-License-Identifier: Apache-2.0
"""A camera that costs nothing: one message, stamped anew and sent at a steady rate.

    python benchmarks/camera.py --namespace /front --rate 30

The benchmarks of the running node start it as a process of its own.
"""

from __future__ import annotations

import argparse
import contextlib

import cv2
import rclpy
from images import image_of
from rclpy.executors import ExternalShutdownException
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CompressedImage
from sensor_msgs.msg import Image as ImageMsg

from ssd_ros.messages.images import as_array, fill_image
from ssd_ros.ros import malloc

TRANSPORTS = ("raw", "compressed")
RELIABILITIES = ("best_effort", "reliable")


def parse_size(text: str) -> tuple[int, int]:
    width, _, height = text.partition("x")
    return int(width), int(height)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add("--namespace", required=True)
    add("--rate", type=float, default=30.0, help="Hz, default: %(default)s")
    add("--size", type=parse_size, default=(640, 480), metavar="WxH", help="default: 640x480")
    add("--transport", default="raw", choices=TRANSPORTS)
    add("--reliability", default="best_effort", choices=RELIABILITIES)
    add("--count", type=int, default=0, help="end after so many, once all were heard; 0: never")
    options = parser.parse_args()

    malloc.tune_malloc_for_images()  # as the node does
    rclpy.init()
    node = Node("camera", namespace=options.namespace)
    reliability = ReliabilityPolicy[options.reliability.upper()]
    qos = QoSProfile(depth=1, reliability=reliability)
    pixels = image_of(options.size)
    if options.transport == "raw":
        message = fill_image(ImageMsg(), pixels, "bgr8")
        publisher = node.create_publisher(ImageMsg, "image_raw", qos)
    else:
        message = CompressedImage(format="bgr8; jpeg compressed bgr8")
        message.data = as_array(cv2.imencode(".jpg", pixels)[1])
        publisher = node.create_publisher(CompressedImage, "image_raw/compressed", qos)
    message.header.frame_id = "camera"
    sent = 0

    def send() -> None:
        nonlocal sent
        if options.count and not publisher.get_subscription_count():
            return
        if options.count and sent == options.count:
            raise ExternalShutdownException
        message.header.stamp = node.get_clock().now().to_msg()
        if not sent:
            stamp = message.header.stamp
            print(f"{stamp.sec}.{stamp.nanosec:09d}", flush=True)
        publisher.publish(message)
        sent += 1

    node.create_timer(1 / options.rate, send)
    with contextlib.suppress(KeyboardInterrupt, ExternalShutdownException):
        rclpy.spin(node)


if __name__ == "__main__":
    main()
