# SPDX-License-Identifier: Apache-2.0
"""What the detector node has while it is configured."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ssd_ros.ros.camera_set import CameraSet
from ssd_ros.ros.inference_loop import InferenceLoop
from ssd_ros.ros.settings import Settings

if TYPE_CHECKING:
    from ssd_ros.detector import Detector


@dataclass(frozen=True)
class Update:
    """A change of parameters that is ready to be applied."""

    settings: Settings
    detector: Detector


@dataclass
class Pipeline:
    """What exists while the node is configured."""

    settings: Settings
    cameras: CameraSet
    loop: InferenceLoop

    def apply(self, update: Update) -> None:
        """Changes to other settings between two frames."""
        self.settings = update.settings
        self.loop.swap(update.detector, update.settings.max_frame_age)
        self.publish_label_info()

    def publish_label_info(self) -> None:
        """Publishes the classes and the score threshold of every camera."""
        threshold = self.settings.thresholds.score_threshold
        self.cameras.publish_label_info(self.loop.detector.classes, threshold)
