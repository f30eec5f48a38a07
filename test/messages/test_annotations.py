# SPDX-License-Identifier: Apache-2.0
"""Annotations for Foxglove: the fields of foxglove_msgs, filled as the image is drawn."""

from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from ssd_ros.detections import Detections
from ssd_ros.drawing import class_colour
from ssd_ros.image import Image
from ssd_ros.messages.annotations import image_annotations

FOUND = Detections(
    np.array([[10, 60, 110, 220], [300, 4, 640, 480]], np.float32),
    np.array([0.9, 0.6], np.float32),
    np.array([1, 0]),
)
IMAGE = Image(np.zeros((480, 640, 3), np.uint8))
HEADER = SimpleNamespace(stamp=SimpleNamespace(sec=3, nanosec=4), frame_id="lens")


@dataclass
class OldAnnotations:
    """As foxglove_msgs had it before it got a stamp of its own."""

    circles: list[Any] = field(default_factory=list)
    points: list[Any] = field(default_factory=list)
    texts: list[Any] = field(default_factory=list)


OLD = SimpleNamespace(
    ImageAnnotations=OldAnnotations,
    PointsAnnotation=type("PointsAnnotation", (SimpleNamespace,), {"LINE_LOOP": 2}),
    TextAnnotation=SimpleNamespace,
    Point2=SimpleNamespace,
    Color=SimpleNamespace,
)


def bgr(colour):
    assert colour.a == 1.0
    return tuple(round(255 * value) for value in (colour.b, colour.g, colour.r))


def test_boxes_are_closed_outlines_and_texts_stand_on_them_in_the_class_s_colour():
    message = image_annotations(HEADER, FOUND, ["cat", "cup"], IMAGE, OLD)
    assert vars(message).keys() == {"circles", "points", "texts"}
    assert message.circles == []
    cat, cup = message.points  # the highest score last, on top
    assert [(p.x, p.y) for p in cup.points] == [(10, 60), (110, 60), (110, 220), (10, 220)]
    assert [(p.x, p.y) for p in cat.points] == [(300, 4), (640, 4), (640, 480), (300, 480)]
    assert [outline.type for outline in message.points] == [2, 2]
    assert [bgr(one.outline_color) for one in message.points] == [class_colour(0), class_colour(1)]
    assert [text.text for text in message.texts] == ["cat 0.60", "cup 0.90"]
    assert [bgr(text.background_color) for text in message.texts] == [
        class_colour(0),
        class_colour(1),
    ]
    inside, above = message.texts
    assert (above.position.x, above.position.y) == (10, 60)
    assert (inside.position.x, inside.position.y) == (300, 4 + inside.font_size)
    assert all(one.timestamp is HEADER.stamp for one in message.points + message.texts)


def test_an_image_without_detections_clears_those_of_the_one_before():
    none = Detections(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int64))
    message = image_annotations(HEADER, none, [], IMAGE, OLD)
    assert (message.points, message.texts, message.circles) == ([], [], [])


# As published in foxglove_msgs 3.4: name and type of each field.
STAMP, METADATA = (
    {"timestamp": "builtin_interfaces/Time"},
    {"metadata": "sequence<foxglove_msgs/KeyValuePair>"},
)
PUBLISHED = {
    "ImageAnnotations": STAMP
    | {
        "circles": "sequence<foxglove_msgs/CircleAnnotation>",
        "points": "sequence<foxglove_msgs/PointsAnnotation>",
        "texts": "sequence<foxglove_msgs/TextAnnotation>",
    }
    | METADATA,
    "PointsAnnotation": STAMP
    | {
        "type": "uint8",
        "points": "sequence<foxglove_msgs/Point2>",
        "outline_color": "foxglove_msgs/Color",
        "outline_colors": "sequence<foxglove_msgs/Color>",
        "fill_color": "foxglove_msgs/Color",
        "thickness": "double",
    }
    | METADATA,
    "TextAnnotation": STAMP
    | {
        "position": "foxglove_msgs/Point2",
        "text": "string",
        "font_size": "double",
        "text_color": "foxglove_msgs/Color",
        "background_color": "foxglove_msgs/Color",
    }
    | METADATA,
    "CircleAnnotation": STAMP
    | {
        "position": "foxglove_msgs/Point2",
        "diameter": "double",
        "thickness": "double",
        "fill_color": "foxglove_msgs/Color",
        "outline_color": "foxglove_msgs/Color",
    }
    | METADATA,
    "Point2": dict.fromkeys("xy", "double"),
    "Color": dict.fromkeys("rgba", "double"),
    "KeyValuePair": dict.fromkeys(("key", "value"), "string"),
}


def test_the_messages_are_those_that_foxglove_publishes():
    foxglove_msgs = pytest.importorskip("foxglove_msgs.msg", reason="needs foxglove_msgs")
    from builtin_interfaces.msg import Time
    from rclpy.serialization import deserialize_message, serialize_message

    for name, fields in PUBLISHED.items():
        own = getattr(foxglove_msgs, name).get_fields_and_field_types()
        # Older versions lack the two newest fields.
        assert {**fields, **own} == fields, name
        assert fields.keys() - own.keys() <= {"timestamp", "metadata"}, name
    kinds = foxglove_msgs.PointsAnnotation
    assert (kinds.UNKNOWN, kinds.POINTS, kinds.LINE_LOOP, kinds.LINE_STRIP) == (0, 1, 2, 3)
    header = SimpleNamespace(stamp=Time(sec=3, nanosec=4))
    message = image_annotations(header, FOUND, ["cat", "cup"], IMAGE)
    read = deserialize_message(serialize_message(message), foxglove_msgs.ImageAnnotations)
    assert read == message
    stamped = [read] if hasattr(read, "timestamp") else []
    assert {
        (s.timestamp.sec, s.timestamp.nanosec) for s in [*stamped, *read.points, *read.texts]
    } == {(3, 4)}
