# SPDX-License-Identifier: Apache-2.0
"""Detections as ROS messages: pure functions, no node."""

from __future__ import annotations

from collections.abc import Sequence

from std_msgs.msg import Header
from vision_msgs.msg import (
    BoundingBox2D,
    Detection2D,
    Detection2DArray,
    LabelInfo,
    ObjectHypothesis,
    ObjectHypothesisWithPose,
    Point2D,
    Pose2D,
    VisionClass,
)

from ssd_ros.detections import Detections


def detection_array(
    header: Header, detections: Detections, classes: Sequence[str]
) -> Detection2DArray:
    """One message for one frame, best detection first.

    Args:
        header: the frame's own; it goes into the array and into each detection untouched, so that
            consumers can synchronise.
        detections: in pixels of that frame.
        classes: names that the detections' labels index.

    Returns:
        `class_id` is the class name; `bbox` has centre and size in pixels of the frame. The pose
        of a hypothesis is left at zero: an image alone does not tell it.
    """
    message = Detection2DArray(header=header)
    message.detections = [
        Detection2D(
            header=header,
            results=[
                ObjectHypothesisWithPose(
                    hypothesis=ObjectHypothesis(class_id=classes[label], score=score)
                )
            ],
            bbox=BoundingBox2D(
                center=Pose2D(position=Point2D(x=(x1 + x2) / 2, y=(y1 + y2) / 2), theta=0.0),
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


def label_info(header: Header, classes: Sequence[str], threshold: float) -> LabelInfo:
    """The class table: numbers as in `Detections.labels`, and the score threshold in force."""
    table = [VisionClass(class_id=i, class_name=name) for i, name in enumerate(classes)]
    return LabelInfo(header=header, class_map=table, threshold=threshold)
