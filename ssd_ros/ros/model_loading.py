# SPDX-License-Identifier: Apache-2.0
"""Loads the detector that the node's settings ask for."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

from rclpy.impl.rcutils_logger import RcutilsLogger

from ssd_ros.detector import Detector
from ssd_ros.ros import malloc
from ssd_ros.ros.settings import Settings
from ssd_ros.ros.weights_download import WeightsDownload
from ssd_ros.weights.weights import WeightsError


def load_detector(settings: Settings, logger: RcutilsLogger, download: WeightsDownload) -> Detector:
    """Reads the weights and warms the network up.

    Args:
        logger: gets a line about what was loaded.
        download: of the weights, where they have to be downloaded first; that is not waited for.

    Raises:
        WeightsError, ValueError, RuntimeError: the weights, the device or the precision cannot
            be used; the message says why.
    """
    if not settings.weights:
        raise WeightsError("parameter 'weights' is empty, expected a weights file")
    download.require(settings.weights)

    start = time.monotonic()

    def load() -> Detector:
        detector = Detector(
            settings.weights,
            settings.backend_options,
            settings.thresholds,
            settings.class_filter,
            strict=False,  # see `parameter_updates`
        )
        detector.warm_up(len(settings.image_topics))
        return detector

    # OpenMP keeps a pool of workers for every thread that ever computed. With more workers than
    # cores it puts all of them to sleep after each layer, which makes the network half as slow
    # again. The workers of a thread that ends here end with it.
    with ThreadPoolExecutor(max_workers=1) as loader:
        detector = loader.submit(load).result()
    malloc.return_freed_memory()
    logger.info(
        f"loaded '{settings.weights}': {len(detector.classes)} classes, {detector.note}, "
        f"ready in {time.monotonic() - start:.1f} s"
    )
    return detector
