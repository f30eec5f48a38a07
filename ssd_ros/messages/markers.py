# SPDX-License-Identifier: Apache-2.0
"""Detections as box outlines in 3D, for RViz's Camera and 3D views; without rclpy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ssd_ros.detections import Detections
from ssd_ros.drawing import caption, class_colour

try:
    import visualization_msgs.msg as visualization_msgs
except ImportError:  # a computer without ROS: the caller passes the classes
    visualization_msgs = None

if TYPE_CHECKING:
    from sensor_msgs.msg import CameraInfo
    from std_msgs.msg import Header
    from visualization_msgs.msg import MarkerArray

DISTANCE = 1.0  # metres in front of the camera; one image gives no distance
_LINE = 0.004  # metres
_LIFETIME = 1  # seconds: outlines disappear when the camera stops


def outlines(
    header: Header,
    detections: Detections,
    classes: Sequence[str],
    size: tuple[int, int],
    info: CameraInfo,
    msg: Any = visualization_msgs,
) -> MarkerArray:
    """A rectangle and a name for each detection, on a plane in front of the camera.

    Args:
        header: the frame's own; its frame_id is the optical frame (REP 103: x right, y down, z
            forward).
        detections: in pixels of that frame.
        classes: class names by label.
        size: width and height of the frame.
        info: the camera's calibration. The focal lengths and the centre of its projection P are
            used, or those of K if P is not set, and its region of interest. Lens distortion is not
            corrected: on an image that is not rectified, the outlines fit the image, not the scene.
        msg: has the message classes as attributes, like the module visualization_msgs.msg.

    Returns:
        First a marker that deletes those of the previous frame, then two for each detection; only
        the first if the camera is not calibrated.
    """
    delete = msg.Marker(header=header, action=msg.Marker.DELETEALL)
    if not is_calibrated(info):
        return msg.MarkerArray(markers=[delete])
    matrix = _camera_matrix(info)
    focal, centre = matrix[[0, 1], [0, 1]], matrix[:2, 2]
    corners = detections.boxes[:, [0, 1, 2, 1, 2, 3, 0, 3, 0, 1]].reshape(-1, 5, 2)
    # The frame shows the region of interest, the whole sensor if that is empty, and may be smaller
    # by binning or resizing. The calibration is that of the whole sensor at full resolution.
    region = np.array([info.roi.width or info.width, info.roi.height or info.height])
    sensor = corners * (region / size) + (info.roi.x_offset, info.roi.y_offset)
    points = (sensor - centre) / focal * DISTANCE
    make_point = type(delete.pose.position)
    markers = [delete]
    for i, (outline, label) in enumerate(zip(points, detections.labels.tolist(), strict=True)):
        box = msg.Marker(header=header, ns="boxes", id=i, type=msg.Marker.LINE_STRIP)
        box.scale.x = _LINE
        box.points = [make_point(x=x, y=y, z=DISTANCE) for x, y in outline.tolist()]
        name = msg.Marker(header=header, ns="names", id=i, type=msg.Marker.TEXT_VIEW_FACING)
        name.text = caption(classes[label], detections.scores[i])
        name.scale.z = 0.04 * DISTANCE
        name.pose.position.x, name.pose.position.y = outline[0].tolist()
        name.pose.position.z = DISTANCE
        blue, green, red = (value / 255 for value in class_colour(label))
        for marker in (box, name):
            marker.lifetime.sec = _LIFETIME
            marker.color.r, marker.color.g, marker.color.b, marker.color.a = red, green, blue, 1.0
            markers.append(marker)
    return msg.MarkerArray(markers=markers)


def is_calibrated(info: CameraInfo) -> bool:
    """Whether the calibration has a size and focal lengths."""
    matrix = _camera_matrix(info)
    return bool(matrix[0, 0] and matrix[1, 1] and info.width and info.height)


def _camera_matrix(info: CameraInfo) -> np.ndarray:
    """Focal lengths and centre (3, 3): of the projection P, or of K if P is not set."""
    matrix = np.array(info.p).reshape(3, 4)[:, :3]
    return matrix if matrix[0, 0] else np.array(info.k).reshape(3, 3)
