# SPDX-License-Identifier: Apache-2.0
"""Engines, precisions and weights are swapped by parameters while a camera runs."""

from typing import Any

import psutil
import pytest

pytest.importorskip("rclpy", reason="needs ROS 2 (pip_ros/install.py brings it)")

import numpy as np
from made_weights import quantised
from played_camera import PlayedCamera, names_in, scores_in
from services import Services
from waiting import wait_for

from ssd_ros.backends.backend import BackendOptions
from ssd_ros.detector import Detector, network_input
from ssd_ros.image import Image
from ssd_ros.weights.native import write
from ssd_ros.weights.reader import read

Answer = tuple[list[str], list[float]]


def expected_answer(choice: dict[str, Any], image: np.ndarray) -> Answer:
    options = BackendOptions(choice["backend"], "cpu", choice["precision"])
    detector = Detector(choice["weights"], options)
    found = detector([Image(image)])[0]
    return [detector.classes[label] for label in found.labels], found.scores.tolist()


def index_of(answer: Answer, expected: list[Answer]) -> int:
    """Which of the expected answers it is; -1 for none, such as a mixture of two."""
    names, scores = answer
    same = (
        i
        for i, (their_names, their_scores) in enumerate(expected)
        if names == their_names and scores == pytest.approx(their_scores, abs=1e-4)
    )
    return next(same, -1)


@pytest.mark.parametrize(
    "swaps",
    [3, pytest.param(50, marks=[pytest.mark.endurance, pytest.mark.timeout(1200)])],
)
def test_swaps_of_engine_precision_and_weights_never_mix_and_leave_no_memory(
    graph, weights, other_weights, images, tmp_path, swaps
):
    int8 = tmp_path / "int8.safetensors"
    write(int8, quantised(read(other_weights), network_input([Image(i) for i in images])))
    choices: list[dict[str, Any]] = [
        {"weights": weights, "backend": "pytorch", "precision": "fp32"},
        {"weights": other_weights, "backend": "openvino", "precision": "auto"},
        {"weights": str(int8), "backend": "openvino", "precision": "int8"},
    ]
    expected = [expected_answer(choice, images[0]) for choice in choices]
    assert len({tuple(scores) for _, scores in expected}) == len(choices)
    process = graph.start_process("ssd_ros.ros.detector_node", choices[0])
    camera, node = PlayedCamera(graph), Services(graph)
    camera.detect(images[0])
    camera.stream(images[0])
    sizes = []
    for number in range(1, swaps + 1):
        current = number % len(choices)
        assert node.set_together(**choices[current]).successful
        before = len(camera.detections)
        wait_for(
            lambda n=before, k=current: (
                len(camera.detections) > n + 3
                and index_of(answer_in(camera.detections[-1]), expected) == k
            ),
            "answers after the swap",
        )
        sizes.append(psutil.Process(process.pid).memory_info().rss)
    for message in camera.detections:
        assert index_of(answer_in(message), expected) >= 0
    assert "Traceback" not in process.log
    if swaps > 3:
        print("resident after each swap, MiB:", *(size >> 20 for size in sizes))
        assert sizes[-1] < 1.05 * max(sizes[:3])


def answer_in(message: Any) -> Answer:
    return names_in(message), scores_in(message)
