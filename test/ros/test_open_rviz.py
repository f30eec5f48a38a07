# SPDX-License-Identifier: Apache-2.0
"""The frame in which RViz is opened."""

import pytest

pytest.importorskip("rclpy", reason="needs ROS 2 (pip_ros/install.py brings it)")

from ssd_ros.ros.open_rviz import first_frame, with_frame


@pytest.mark.parametrize(
    ("arguments", "frame", "expected"),
    [
        ("-d f --ros-args -r a:=b", "lens", "-d f --fixed-frame lens --ros-args -r a:=b"),
        ("-d f", "lens", "-d f --fixed-frame lens"),
        ("-d f --ros-args -r a:=b", "", "-d f --ros-args -r a:=b"),
    ],
)
def test_the_frame_is_given_before_the_arguments_of_ros(arguments, frame, expected):
    assert with_frame(arguments.split(), frame) == expected.split()


def test_without_detections_the_frame_stays_that_of_the_file(rclpy_started):
    assert first_frame(0.2) == ""
