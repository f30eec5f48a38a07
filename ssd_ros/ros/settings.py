# SPDX-License-Identifier: Apache-2.0
"""The detector node's parameter values as one checked, immutable object."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ssd_ros.backends.backend import BackendOptions
from ssd_ros.detections import Thresholds
from ssd_ros.ros.parameter_table import DETECTOR, check_choices
from ssd_ros.ros.topics import TopicResolver, camera_topics, check_output_namespace


@dataclass(frozen=True)
class Settings:
    """Values that are valid together, of the parameters in `parameter_table.DETECTOR`.

    Without `autostart`, which is read once, at the start.

    Attributes:
        class_filter: names of the classes to report; empty for all.
        max_frame_age: seconds; 0 for no limit.
    """

    image_topics: tuple[str, ...]
    image_transport: str
    output_namespace: str
    weights: str
    backend_options: BackendOptions
    thresholds: Thresholds
    class_filter: tuple[str, ...]
    image_timeout: float
    max_frame_age: float
    mono16_range: str
    markers: bool

    @classmethod
    def from_values(cls, values: Mapping[str, Any]) -> Settings:
        """Checks parameter values, also what no range in a descriptor can express.

        Args:
            values: by parameter name, at least all of `parameter_table.DETECTOR`.

        Raises:
            ValueError: with the parameter's name, the value and what was expected.
        """
        for problem in find_problems(values).values():
            raise ValueError(problem)
        return cls(
            image_topics=tuple(values["image_topics"]),
            image_transport=values["image_transport"],
            output_namespace=values["output_namespace"],
            weights=values["weights"],
            backend_options=BackendOptions(
                values["backend"], values["device"], values["precision"], values["threads"]
            ),
            thresholds=Thresholds(
                values["score_threshold"], values["nms_iou_threshold"], values["max_detections"]
            ),
            class_filter=tuple(name for name in values["classes"] if name),
            image_timeout=values["image_timeout"],
            max_frame_age=values["max_frame_age"],
            mono16_range=values["mono16_range"],
            markers=values["markers"],
        )


def find_problems(
    values: Mapping[str, Any], resolve: TopicResolver | None = None
) -> dict[str, str]:
    """What is wrong with parameter values, by the name of the parameter.

    Args:
        values: by parameter name, at least all of `parameter_table.DETECTOR`.
        resolve: without it topic names are not resolved.
    """
    problems = {}
    for name in DETECTOR:
        try:
            if values[name] is None:
                raise ValueError(f"{name} must have a value")
            check_choices(DETECTOR, {name: values[name]})
            if name == "output_namespace":
                check_output_namespace(values[name])
        except ValueError as error:
            problems[name] = str(error)
    if values["web_host"] == "":  # for sockets that is the whole network
        problems["web_host"] = "web_host must be an address or a host name, got ''"
    if "image_topics" not in problems:
        names, compressed = values["image_topics"], values["image_transport"] == "compressed"
        if not names or not all(names):
            problems["image_topics"] = (
                "image_topics must be the names of one or more topics, such as "
                f"['/camera/image_raw'], got {list(names)}"
            )
        elif len(set(names)) != len(names):
            problem = f"image_topics must be different topic names, got {list(names)}"
            problems["image_topics"] = problem
        elif resolve is not None and "output_namespace" not in problems:
            try:
                camera_topics(names, compressed, resolve, values["output_namespace"])
            except ValueError as error:
                problems["image_topics"] = f"image_topics: {error}"
    return problems
