# SPDX-License-Identifier: Apache-2.0
"""The names of the topics of all cameras, resolved and checked before anything is created."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rclpy.node import Node
from rclpy.validate_full_topic_name import validate_full_topic_name


@dataclass(frozen=True)
class CameraTopics:
    """Resolved names of the topics of one camera.

    Attributes:
        image: the image topic, without the transport's suffix.
        outputs: namespace of the output topics.
    """

    image: str
    outputs: str


OUTPUTS = (
    *("detections", "detections_image", "detections_image/compressed", "detections_markers"),
    *("annotations", "label_info"),
)


def resolver(node: Node) -> Callable[[str], str]:
    """The function that gives a name's topic in a node, with its remappings.

    It raises ValueError for what is not a topic name.
    """

    def resolve(name: str) -> str:
        try:
            topic = node.resolve_topic_name(name)
            validate_full_topic_name(topic)
        except Exception as error:  # of several types, by what is wrong with the name
            reason = " ".join(str(error).split())
            raise ValueError(f"'{name}' is not a topic name: {reason}") from None
        return topic

    return resolve


def camera_topics(
    names: Sequence[str], compressed: bool, resolve: Callable[[str], str]
) -> list[CameraTopics]:
    """The topics of each camera.

    Args:
        names: values of the parameter `image_topics`.
        compressed: images come on TOPIC/compressed.
        resolve: see `resolver`.

    Raises:
        ValueError: a name is not a topic name, two are the same topic, or one is an output.
    """
    images = [resolve(name) for name in names]
    for name, topic in zip(names, images, strict=True):
        if images.count(topic) > 1:
            raise ValueError(f"'{name}' is the topic '{topic}', which is there more than once")
    subscribed = [resolve(f"{topic}/compressed" if compressed else topic) for topic in images]
    spaces = output_namespaces(images)
    outputs = {resolve(f"{space}/{name}") for space in spaces for name in OUTPUTS}
    for topic in subscribed:
        if topic in outputs:
            raise ValueError(f"'{topic}' is also an output: the node would answer itself")
    return [CameraTopics(*both) for both in zip(images, spaces, strict=True)]


def output_namespaces(topics: Sequence[str]) -> list[str]:
    """The namespaces of the output topics: those of the image topics, as in image_pipeline.

    Image topics that share a namespace would share their outputs; the outputs of those go below
    the image topics' own names.

    Args:
        topics: different topics.
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
    return spaces
