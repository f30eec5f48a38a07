# SPDX-License-Identifier: Apache-2.0
"""Detections as foxglove_msgs/ImageAnnotations, which Foxglove and Lichtblick draw on an image."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ssd_ros.detections import Detections
from ssd_ros.drawing import caption, class_colour, line_width, text_colour
from ssd_ros.image import Image

try:
    import foxglove_msgs.msg as foxglove_msgs
except ImportError:  # optional; the caller passes the classes, or does without
    foxglove_msgs = None

if TYPE_CHECKING:
    from foxglove_msgs.msg import Color, ImageAnnotations
    from std_msgs.msg import Header

_FONT = 12  # pixels per unit of `line_width`; about the size of the text in the annotated image


def image_annotations(
    header: Header,
    detections: Detections,
    classes: Sequence[str],
    image: Image,
    msg: Any = foxglove_msgs,
) -> ImageAnnotations:
    """An outline and a text for each detection, in the colours of the annotated image.

    Viewers match annotations and images by their stamps. These are in each annotation; newer
    versions of foxglove_msgs have one in the message as well.

    Args:
        header: the frame's own.
        detections: in pixels of that frame.
        classes: class names by label.
        image: the frame's image, for the width of lines and the size of texts.
        msg: has the message classes as attributes, like the module foxglove_msgs.msg.

    Returns:
        A closed polygon of four points for each box, and a text above its upper left corner, or
        inside of it where the image ends there; highest score last, so that it is on top.
    """
    message, unit = msg.ImageAnnotations(), line_width(image)
    if hasattr(message, "timestamp"):
        message.timestamp = header.stamp
    size = float(_FONT * unit)
    for i in reversed(range(len(detections))):
        label = int(detections.labels[i])
        x1, y1, x2, y2 = detections.boxes[i].tolist()
        colour = class_colour(label)
        corners = ((x1, y1), (x2, y1), (x2, y2), (x1, y2))
        outline = msg.PointsAnnotation(
            timestamp=header.stamp,
            type=msg.PointsAnnotation.LINE_LOOP,
            points=[msg.Point2(x=x, y=y) for x, y in corners],
            outline_color=_colour(colour, msg),
            thickness=float(unit),
        )
        text = msg.TextAnnotation(
            timestamp=header.stamp,
            position=msg.Point2(x=x1, y=y1 if y1 >= size else y1 + size),
            text=caption(classes[label], detections.scores[i]),
            font_size=size,
            text_color=_colour(text_colour(colour), msg),
            background_color=_colour(colour, msg),
        )
        message.points.append(outline)
        message.texts.append(text)
    return message


def _colour(bgr: tuple[int, int, int], msg: Any) -> Color:
    blue, green, red = (value / 255 for value in bgr)
    return msg.Color(r=red, g=green, b=blue, a=1.0)
