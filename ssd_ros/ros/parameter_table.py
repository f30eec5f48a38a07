# SPDX-License-Identifier: Apache-2.0
"""The parameters of both nodes: one table for the nodes, the launch arguments and the tests.

Imports neither rclpy nor PyTorch, so that launch files can read it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ssd_ros.backends.backend import BACKENDS, PRECISIONS
from ssd_ros.bit_depth import PERCENTILES, RANGES
from ssd_ros.detections import Thresholds
from ssd_ros.weights.names import COCO


@dataclass(frozen=True)
class ParameterSpec:
    """One parameter.

    Attributes:
        default: its type is the parameter's type.
        text: what the parameter controls, in one or two sentences.
        choices: all allowed values, where they can be listed.
        values: the allowed values in words, where neither `choices` nor `bounds` lists them.
        bounds: smallest and largest number, both allowed.
        live: whether it can be set while the node is configured.
    """

    default: Any
    text: str
    choices: tuple[str, ...] = ()
    values: str = ""
    bounds: tuple[float, float] | None = None
    live: bool = True

    @property
    def allowed(self) -> str:
        """The allowed values in words; empty if any value of the type is allowed."""
        if self.bounds:
            return f"{self.bounds[0]:g} to {self.bounds[1]:g}"
        return ", ".join(self.choices) or self.values

    @property
    def described(self) -> str:
        """The text with the allowed values, as documentation and launch arguments show it."""
        return f"{self.text} Values: {self.allowed}." if self.allowed else self.text


_THRESHOLDS = Thresholds()

DETECTOR: dict[str, ParameterSpec] = {
    "image_topics": ParameterSpec(
        ["image_raw"],
        "Image topics to run detection on; relative names are resolved in the node's namespace. "
        "Output topics are created in each image topic's namespace.",
        values="topic names, at least one",
        live=False,
    ),
    "image_transport": ParameterSpec(
        "raw",
        "raw subscribes to sensor_msgs/Image on each topic, compressed to "
        "sensor_msgs/CompressedImage on TOPIC/compressed.",
        choices=("raw", "compressed"),
        live=False,
    ),
    "output_namespace": ParameterSpec(
        "",
        "Namespace of the output topics below that of the image topic: with night, the detections "
        "of /front/image_raw are on /front/night/detections. For a second detector on the same "
        "camera; empty for none.",
        values="a relative name such as night, or empty",
        live=False,
    ),
    "weights": ParameterSpec(
        COCO,
        "Weights file: native .safetensors, or a .pth of a known implementation; "
        "`coco` selects torchvision's (80 classes of everyday objects), downloaded once, `demo` "
        "the bundled weights (five demo classes only). Setting it while the node runs "
        "loads and warms up the new model, then swaps between two frames.",
        values="path of a file, coco, or demo",
    ),
    "backend": ParameterSpec(
        "auto",
        "Engine that runs the network; auto selects PyTorch if it has a CUDA device, else OpenVINO "
        "if it is installed, else PyTorch.",
        choices=("auto", *BACKENDS),
    ),
    "device": ParameterSpec(
        "auto",
        "Device that runs the network; auto selects CUDA if a CUDA device exists, else the CPU.",
        values="auto, cpu, cuda, cuda:N",
    ),
    "precision": ParameterSpec(
        "auto",
        "Number format of the network. auto selects fp16 on CUDA; on a CPU with OpenVINO int8 if "
        "the weights are quantised, else bf16 if the processor has it in hardware; else fp32. "
        "OpenVINO refuses what the processor lacks; PyTorch uses fp32, and the log says why, where "
        "half precision changes the outputs.",
        choices=("auto", *PRECISIONS),
    ),
    "threads": ParameterSpec(0, "CPU threads of the network; 0 uses every core.", bounds=(0, 1024)),
    "score_threshold": ParameterSpec(
        _THRESHOLDS.score_threshold,
        "Minimum score; only detections with a higher score are published.",
        bounds=(0.0, 1.0),
    ),
    "nms_iou_threshold": ParameterSpec(
        _THRESHOLDS.nms_iou_threshold,
        "IoU threshold for per-class non-maximum suppression.",
        bounds=(0.0, 1.0),
    ),
    "max_detections": ParameterSpec(
        _THRESHOLDS.max_detections,
        "Maximum number of detections per image; the highest scores are kept.",
        bounds=(1, 10_000),
    ),
    "classes": ParameterSpec(
        [""],
        "Names of the classes to report; an empty name or list means all.",
        values="class names of the weights",
    ),
    "image_timeout": ParameterSpec(
        5.0,
        "Seconds without an image after which a camera is reported, with the reason.",
        bounds=(0.1, 3600.0),
    ),
    "max_frame_age": ParameterSpec(
        0.0,
        "Maximum image age in seconds; older images are dropped and counted. 0 disables it. "
        "Requires synchronised clocks.",
        bounds=(0.0, 3600.0),
    ),
    "mono16_range": ParameterSpec(
        PERCENTILES,
        "Values of a 16-bit grey image (mono16, 16UC1, PNG, TIFF) that become 0 to 255: "
        "percentiles takes them from each image, 10bit to 16bit are fixed. Thermal cameras send 12 "
        "or 14 bits.",
        choices=RANGES,
        live=False,
    ),
    "markers": ParameterSpec(
        False,
        "Also publish detections_markers (visualization_msgs/MarkerArray): box outlines at 1 m "
        "depth in the camera's optical frame, using the camera_info of the image's namespace.",
        live=False,
    ),
    "autostart": ParameterSpec(
        True,
        "Configure and activate at start. With false the node waits for a lifecycle manager.",
        live=False,
    ),
    "web_port": ParameterSpec(
        0,
        "TCP port of a web page with the annotated images of all cameras, their diagnostics, and "
        "controls for score_threshold and classes. 0 disables it. Needs aiohttp.",
        bounds=(0, 65_535),
        live=False,
    ),
    "web_host": ParameterSpec(
        "127.0.0.1",
        "Address that the web page listens on. 127.0.0.1 is reached from this machine only; "
        "0.0.0.0 lets everybody on the network see the images and change both parameters.",
        values="an address or a host name of this machine",
        live=False,
    ),
}

# None of these can be set once the node has started.
IMAGE_SOURCE: dict[str, ParameterSpec] = {
    "source": ParameterSpec(
        "",
        "Image folder, image file, video file, camera (a number, or /dev/videoN) or stream URL.",
        live=False,
    ),
    "rate": ParameterSpec(30.0, "Images per second.", bounds=(0.01, 1000.0), live=False),
    "loop": ParameterSpec(True, "Restart at the end of the source.", live=False),
    "wait_for_subscribers": ParameterSpec(
        0,
        "Number of subscribers to wait for on each topic; default 1 if `loop` is false, else 0.",
        bounds=(0, 1000),
        live=False,
    ),
    "transport": ParameterSpec(
        "raw",
        "Message type to publish: raw images, compressed (JPEG) images, or both.",
        choices=("raw", "compressed", "both"),
        live=False,
    ),
    "frame_id": ParameterSpec("camera", "Optical frame of the images.", live=False),
    "jpeg_quality": ParameterSpec(
        90, "JPEG quality of compressed images.", bounds=(1, 100), live=False
    ),
    "camera_info_url": ParameterSpec(
        "",
        "Calibration to publish as camera_info with each image: a YAML file as camera_calibration "
        "writes it, by its path or file:// URL; empty for none.",
        live=False,
    ),
    "fov": ParameterSpec(
        0.0,
        "Horizontal field of view in degrees; without a calibration file, publish the camera_info "
        "of an ideal camera with it. 0 for none.",
        bounds=(0.0, 179.0),
        live=False,
    ),
}


def check_choices(specs: Mapping[str, ParameterSpec], values: Mapping[str, Any]) -> None:
    """Checks the values of parameters that have a list of choices.

    Raises:
        ValueError: with the parameter's name, its choices and the value.
    """
    for name, value in values.items():
        choices = specs[name].choices
        if choices and value not in choices:
            raise ValueError(f"{name} must be one of {', '.join(choices)}, got '{value}'")


def split_list(text: str) -> list[str]:
    """The items of a list that is written as [a, b] or a,b."""
    return [item.strip(" '\"") for item in text.strip("[] ").split(",")]


def from_text(name: str, spec: ParameterSpec, text: str) -> Any:
    """Converts a launch argument to its parameter's type.

    Args:
        text: lists as [a, b] or a,b; booleans as true or false.

    Raises:
        ValueError: the text is not a value of the parameter's type.
    """
    kind = type(spec.default)
    if kind is list:
        return split_list(text)
    if kind is bool:
        return to_bool(name, text)
    try:
        return kind(text)
    except ValueError:
        raise ValueError(f"{name} must be of type {kind.__name__}, got '{text}'") from None


def to_bool(name: str, text: str) -> bool:
    """The value of a launch argument that is true or false.

    Raises:
        ValueError: with the argument's name and the text.
    """
    word = text.strip().lower()
    if word not in ("true", "false", "yes", "no", "on", "off", "1", "0"):
        raise ValueError(f"{name} must be true or false, got '{text}'")
    return word in ("true", "yes", "on", "1")
