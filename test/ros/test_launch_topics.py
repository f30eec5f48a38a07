# SPDX-License-Identifier: Apache-2.0
"""What launch files find out about the topics of the detector that they start."""

import pytest
import yaml

pytest.importorskip("rclpy", reason="needs ROS 2 (pip_ros/install.py brings it)")

from ssd_ros.ros.launch_topics import output_namespace, parameter_in_file


@pytest.mark.parametrize(
    ("image_topics", "below", "namespace", "expected"),
    [
        (["image_raw"], "", "/", ""),
        (["image_raw"], "", "/robot", "/robot"),
        (["front/image_raw", "rear/image_raw"], "", "/robot", "/robot/front"),
        (["/camera/image_raw"], "night", "/robot", "/camera/night"),
        (["/camera/left", "/camera/right"], "", "/", "/camera/left"),
        (["~/image"], "", "/robot", "/robot/detector"),
    ],
)
def test_outputs_are_beside_the_first_image_topic(
    tmp_path, image_topics, below, namespace, expected
):
    given = {"image_topics": image_topics, "output_namespace": below}
    file = tmp_path / "my.yaml"
    file.write_text("/**:\n  ros__parameters: {image_topics: [other], output_namespace: other}\n")
    assert output_namespace(given, file, "detector", namespace) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("image_topics: [front/image]", "/robot/front"),
        ("image_topics: [front/image], output_namespace: night", "/robot/front/night"),
        ("output_namespace: night", "/robot/night"),
        ("image_topics: /cam/image_raw", "/cam"),
        ("image_topics: 'front/image, rear/image'", "/robot/front"),
        ("image_topics: []", None),
        ("image_topics: ['']", None),
        ("image_topics: 5", None),
    ],
)
def test_what_is_not_given_is_that_of_the_file_or_the_default(tmp_path, text, expected):
    file = tmp_path / "my.yaml"
    file.write_text(f"/robot/detector:\n  ros__parameters: {{{text}}}\n")
    assert output_namespace({}, file, "detector", "/robot") == expected


@pytest.mark.parametrize(
    ("key", "node", "meant"),
    [
        ("/**", "/detector", True),
        ("/**", "/robot/detector", True),
        ("detector", "/detector", True),
        ("detector", "/robot/detector", False),
        ("/robot/detector", "/robot/detector", True),
        ("/*/detector", "/robot/detector", True),
        ("/*/detector", "/a/b/detector", False),
        ("/**/detector", "/detector", True),
        ("/**/detector", "/a/b/detector", True),
        ("/other", "/detector", False),
        ("/detect.r", "/detector", False),
        ("robot > detector", "/robot/detector", True),
        ("/a > /b > detector", "/a/b/detector", True),
        ("/ > detector", "/detector", True),
        ("robot > **", "/robot/arm/detector", True),
        ("robot > detector", "/detector", False),
    ],
)
def test_a_parameter_of_a_file_is_found_by_the_nodes_name(tmp_path, key, node, meant):
    file = tmp_path / "my.yaml"
    content = {"ros__parameters": {"image_topics": ["front/image"]}}
    for part in reversed(key.split(" > ")):
        content = {part: content}
    file.write_text(yaml.safe_dump(content))
    expected = ["front/image"] if meant else None
    assert parameter_in_file(file, node, "image_topics") == expected


def test_the_last_section_that_names_a_parameter_counts(tmp_path):
    file = tmp_path / "my.yaml"
    first = "/**:\n  ros__parameters: {markers: true, threads: 1}\n"
    file.write_text(f"{first}/detector:\n  ros__parameters: {{threads: 2}}\n")
    assert parameter_in_file(file, "/detector", "threads") == 2
    assert parameter_in_file(file, "/detector", "markers") is True
    assert parameter_in_file(file, "/detector", "classes") is None
    file.write_text("")
    assert parameter_in_file(file, "/detector", "threads") is None
