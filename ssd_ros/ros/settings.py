# SPDX-License-Identifier: Apache-2.0
"""The detector node's parameter values as one checked, immutable object."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ssd_ros.backends.backend import BackendOptions
from ssd_ros.detections import Thresholds
from ssd_ros.ros.parameter_table import DETECTOR, check_choices


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
    weights: str
    backend_options: BackendOptions
    thresholds: Thresholds
    class_filter: tuple[str, ...]
    image_timeout: float
    max_frame_age: float
    markers: bool

    @classmethod
    def from_values(cls, values: Mapping[str, Any]) -> Settings:
        """Checks parameter values, also what no range in a descriptor can express.

        Args:
            values: by parameter name, at least all of `parameter_table.DETECTOR`.

        Raises:
            ValueError: with the parameter's name, the value and what was expected.
        """
        missing = [name for name in DETECTOR if values[name] is None]
        if missing:
            raise ValueError(f"{', '.join(missing)} must have a value")
        topics = tuple(values["image_topics"])
        if not topics or not all(topics) or len(set(topics)) != len(topics):
            raise ValueError(f"image_topics must be different topic names, got {list(topics)}")
        check_choices(DETECTOR, {name: values[name] for name in DETECTOR})
        return cls(
            image_topics=topics,
            image_transport=values["image_transport"],
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
            markers=values["markers"],
        )
