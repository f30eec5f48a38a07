# SPDX-License-Identifier: Apache-2.0
"""The detector node's parameters: one table that declares, checks and documents them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from rcl_interfaces.msg import ParameterDescriptor

from ssd_ros.backends.backend import PRECISIONS
from ssd_ros.detections import Thresholds
from ssd_ros.ros.descriptors import set_bounds
from ssd_ros.weights.names import DEMO

TRANSPORTS = ("raw", "compressed")


@dataclass(frozen=True)
class Parameter:
    """One row of the table.

    Attributes:
        default: its type is the parameter's type.
        text: what it does, in a sentence or two.
        allowed: values in words, where there is no numeric range.
        bounds: smallest and largest number, both allowed.
        live: whether it can be set while the node is configured.
    """

    default: Any
    text: str
    allowed: str = ""
    bounds: tuple[float, float] | None = None
    live: bool = True

    def descriptor(self) -> ParameterDescriptor:
        """What `ros2 param describe` shows."""
        described = ParameterDescriptor(
            description=self.text, additional_constraints=self.constraints
        )
        set_bounds(described, self.bounds, type(self.default))
        return described

    @property
    def constraints(self) -> str:
        when = "" if self.live else "Can be set only while the node is unconfigured."
        return " ".join(filter(None, (self.allowed and f"Values: {self.allowed}.", when)))


_LIMITS = Thresholds()

PARAMETERS: dict[str, Parameter] = {
    "image_topics": Parameter(
        ["image_raw"],
        "Camera topics to detect on, one or several; relative names live in the node's namespace. "
        "Outputs appear beside each image.",
        allowed="topic names, at least one",
        live=False,
    ),
    "image_transport": Parameter(
        "raw",
        "raw subscribes to sensor_msgs/Image on each topic, compressed to "
        "sensor_msgs/CompressedImage on TOPIC/compressed.",
        allowed=", ".join(TRANSPORTS),
        live=False,
    ),
    "weights": Parameter(
        DEMO,
        "Weights file: native .safetensors, or a torchvision ssd300_vgg16 state dict; demo for the "
        "package's own, which know the objects of the demo alone. Setting it while the node runs "
        "loads and warms up the new model, then swaps between two frames.",
        allowed="path of a file, or demo",
    ),
    "device": Parameter(
        "auto",
        "Where the network runs; auto takes CUDA where there is a device, else the CPU.",
        allowed="auto, cpu, cuda, cuda:N",
        live=False,
    ),
    "precision": Parameter(
        "auto",
        "Number format of the network; auto is fp16 on CUDA and fp32 on the CPU.",
        allowed=", ".join(("auto", *PRECISIONS)),
    ),
    "score_threshold": Parameter(
        _LIMITS.score_threshold,
        "Detections have a score above this.",
        bounds=(0.0, 1.0),
    ),
    "nms_iou_threshold": Parameter(
        _LIMITS.nms_iou_threshold,
        "Of two boxes of one class that overlap by more than this intersection over union, only "
        "the better scored one stays.",
        bounds=(0.0, 1.0),
    ),
    "max_detections": Parameter(
        _LIMITS.max_detections,
        "At most so many detections in an image, the best.",
        bounds=(1, 8732),
    ),
    "classes": Parameter(
        [""],
        "Names of the classes to report; an empty name or list means all.",
        allowed="class names of the weights",
    ),
    "image_timeout": Parameter(
        5.0,
        "Seconds without an image after which a camera is reported, with the reason.",
        bounds=(0.1, 3600.0),
    ),
    "max_frame_age": Parameter(
        0.0,
        "Images whose stamp is older than so many seconds are skipped and counted; 0 for no "
        "limit. Needs camera and detector to have the same clock.",
        bounds=(0.0, 3600.0),
    ),
    "markers": Parameter(
        False,
        "Publish detections_markers (visualization_msgs/MarkerArray), too: outlines one metre "
        "before the camera, in its optical frame, by the camera_info beside each image.",
        live=False,
    ),
    "autostart": Parameter(
        True,
        "Configure and activate at start. With false the node waits for a lifecycle manager.",
        live=False,
    ),
}


def check(values: dict[str, Any]) -> None:
    """Checks what no range in a descriptor can say.

    Raises:
        ValueError: with the parameter's name, the value got and what was expected.
    """
    topics = values["image_topics"]
    if not topics or not all(topics) or len(set(topics)) != len(topics):
        raise ValueError(f"image_topics must be different topic names, got {list(topics)}")
    for name, allowed in (
        ("image_transport", TRANSPORTS),
        ("precision", ("auto", *PRECISIONS)),
    ):
        if values[name] not in allowed:
            raise ValueError(f"{name} must be one of {', '.join(allowed)}, got '{values[name]}'")


def limits(values: dict[str, Any]) -> Thresholds:
    """The post-processing limits that parameter values ask for."""
    return Thresholds(
        values["score_threshold"], values["nms_iou_threshold"], values["max_detections"]
    )


def chosen_classes(values: dict[str, Any]) -> list[str]:
    """The classes to report; empty for all."""
    return [name for name in values["classes"] if name]
