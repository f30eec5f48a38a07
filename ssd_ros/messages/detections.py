# SPDX-License-Identifier: Apache-2.0
"""Detections as vision_msgs messages, without rclpy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ssd_ros.detections import Detections

try:
    import vision_msgs.msg as vision_msgs
except ImportError:  # a computer without ROS: the caller passes the classes
    vision_msgs = None

if TYPE_CHECKING:
    from std_msgs.msg import Header
    from vision_msgs.msg import Detection2DArray, LabelInfo


def detection_array(
    header: Header, detections: Detections, classes: Sequence[str], msg: Any = vision_msgs
) -> Detection2DArray:
    """One message for one frame, highest score first.

    Args:
        header: the frame's own; stored unchanged in the array and in each detection, so that
            consumers can synchronise.
        detections: in pixels of that frame.
        classes: class names by label.
        msg: has the message classes as attributes, like the module vision_msgs.msg.

    Returns:
        `class_id` is the class name; `bbox` has centre and size in pixels of the frame. The pose
        of a hypothesis stays zero: one image does not tell it.
    """
    message = msg.Detection2DArray(header=header)
    message.detections = [
        msg.Detection2D(
            header=header,
            results=[
                msg.ObjectHypothesisWithPose(
                    hypothesis=msg.ObjectHypothesis(class_id=classes[label], score=score)
                )
            ],
            bbox=msg.BoundingBox2D(
                center=msg.Pose2D(
                    position=msg.Point2D(x=(x1 + x2) / 2, y=(y1 + y2) / 2), theta=0.0
                ),
                size_x=x2 - x1,
                size_y=y2 - y1,
            ),
        )
        for (x1, y1, x2, y2), score, label in zip(
            detections.boxes.tolist(),
            detections.scores.tolist(),
            detections.labels.tolist(),
            strict=True,
        )
    ]
    return message


def label_info(
    header: Header, classes: Sequence[str], threshold: float, msg: Any = vision_msgs
) -> LabelInfo:
    """The class names by label, and the score threshold in force; `msg` as in detection_array."""
    class_map = [msg.VisionClass(class_id=i, class_name=name) for i, name in enumerate(classes)]
    return msg.LabelInfo(header=header, class_map=class_map, threshold=threshold)
