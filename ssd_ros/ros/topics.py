# SPDX-License-Identifier: Apache-2.0
"""The names of the topics of all cameras, resolved and checked before anything is created."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rclpy.node import Node
from rclpy.validate_full_topic_name import validate_full_topic_name

from ssd_ros.ros.image_transport import camera_info_topic, compressed_topic


@dataclass(frozen=True)
class CameraTopics:
    """Names of the topics of one camera.

    Attributes:
        image: resolved name of the image topic, without the transport's suffix.
        outputs: what the publishers are created with, by the names in OUTPUTS: not resolved, for
            rclpy does that, and a remapping rule must not be applied twice.
    """

    image: str
    outputs: Mapping[str, str]


ANNOTATED = "detections_image"
ANNOTATED_JPEG = compressed_topic(ANNOTATED)
OUTPUTS = (
    *("detections", ANNOTATED, ANNOTATED_JPEG, "detections_markers"),
    *("annotations", "label_info"),
)


class TopicResolver:
    """Topic names as a node uses them, with its namespace and remapping rules."""

    def __init__(self, node: Node) -> None:
        self._node = node

    def __call__(self, name: str) -> str:
        """The topic of a name.

        Raises:
            ValueError: it is not a topic name.
        """
        try:
            topic = self._node.resolve_topic_name(name)
            validate_full_topic_name(topic)
        except Exception as error:  # of several types, by what is wrong with the name
            reason = " ".join(str(error).split())
            raise ValueError(f"'{name}' is not a topic name: {reason}") from None
        return str(topic)

    def has_rule(self, name: str) -> bool:
        """Whether a remapping rule gives another topic to a valid name."""
        return bool(self(name) != self._node.resolve_topic_name(name, only_expand=True))


def camera_topics(
    names: Sequence[str], compressed: bool, resolve: TopicResolver, output_namespace: str = ""
) -> list[CameraTopics]:
    """The topics of each camera.

    Args:
        names: values of the parameter `image_topics`.
        compressed: images come on TOPIC/compressed.
        output_namespace: value of the parameter.

    Raises:
        ValueError: a name is not a topic name, two are the same topic, or one is an output.
    """
    images = [resolve(name) for name in names]
    for name, topic in zip(names, images, strict=True):
        if images.count(topic) > 1:
            raise ValueError(f"'{name}' is the topic '{topic}', which is there more than once")
    subscribed = [resolve(compressed_topic(topic) if compressed else topic) for topic in images]
    spaces = output_namespaces(images, output_namespace)
    outputs = [{name: f"{space}/{name}" for name in OUTPUTS} for space in spaces]
    if len(outputs) == 1:
        # Then it is clear what a rule like `detections:=boxes` is meant for, although that name is
        # relative to the node and the output's to the image topic.
        outputs[0] |= {name: name for name in OUTPUTS if resolve.has_rule(name)}
    for camera in outputs:  # as in image_transport, a rule for the image is one for its JPEG
        if not resolve.has_rule(camera[ANNOTATED_JPEG]):
            camera[ANNOTATED_JPEG] = compressed_topic(resolve(camera[ANNOTATED]))
    published = {resolve(topic) for camera in outputs for topic in camera.values()}
    for topic in subscribed:
        if topic in published:
            raise ValueError(f"'{topic}' is also an output: the node would answer itself")
    return [CameraTopics(*both) for both in zip(images, outputs, strict=True)]


@dataclass(frozen=True)
class SourceTopics:
    """What the publishers of an image source are created with, not resolved.

    Attributes:
        image, compressed: raw images, and the same as JPEG.
        camera_info: the camera's calibration.
    """

    image: str
    compressed: str
    camera_info: str


def source_topics(resolve: TopicResolver) -> SourceTopics:
    """The topics of an image source: those beside `image_raw` follow it wherever a rule moves it.

    A rule for one of them by its own name (`camera_info:=…`) takes precedence.
    """
    image = resolve("image_raw")
    beside = {
        "image_raw/compressed": compressed_topic(image),
        "camera_info": camera_info_topic(image),
    }
    names = (name if resolve.has_rule(name) else topic for name, topic in beside.items())
    return SourceTopics("image_raw", *names)


def output_namespaces(topics: Sequence[str], below: str = "") -> list[str]:
    """The namespaces of the output topics: those of the image topics, as in image_pipeline.

    Image topics that share a namespace would share their outputs; the outputs of those go below
    the image topics' own names.

    Args:
        topics: different topics.
        below: a namespace that is put below each of them; empty for none.
    """
    spaces = [topic.rsplit("/", 1)[0] for topic in topics]
    while len(set(spaces)) < len(spaces):
        deeper = [
            topic if spaces.count(space) > 1 else space
            for topic, space in zip(topics, spaces, strict=True)
        ]
        if deeper == spaces:
            raise ValueError(f"the topics must be different, got {list(topics)}")
        spaces = deeper
    return [f"{space}/{below}" if below else space for space in spaces]


def check_output_namespace(value: str) -> None:
    """Checks the value of the parameter `output_namespace`.

    Raises:
        ValueError: it is not empty and not a relative namespace.
    """
    if re.fullmatch(r"([A-Za-z_]\w*(/[A-Za-z_]\w*)*)?", value, re.ASCII):
        return
    refused = sorted(set(re.sub(r"[\w/]", "", value, flags=re.ASCII)))
    problem = (
        ", ".join(map(repr, refused)) + " not allowed"
        if refused
        else ("each part between slashes starts with a letter or _")
    )
    raise ValueError(
        "output_namespace must be empty or a relative name of letters, digits, _ and /, such as "
        f"night_model, got '{value}': {problem}"
    )
