# SPDX-License-Identifier: Apache-2.0
"""The detector's parameters: the same in node, parameter file, launch file and docs/node.md."""

import ast
import re
import subprocess
import sys

import pytest
import yaml

pytest.importorskip("rclpy", reason="needs ROS 2 (pip_ros/install.py brings it)")

from graph import ROOT
from rcl_interfaces.srv import DescribeParameters
from waiting import wait_for

from ssd_ros.backends.backend import PRECISIONS
from ssd_ros.detections import Thresholds
from ssd_ros.ros.parameter_table import DETECTOR, IMAGE_SOURCE, check_choices, from_text
from ssd_ros.ros.settings import Settings

DEFAULTS = {name: row.default for name, row in DETECTOR.items()}


def test_the_parameter_file_holds_every_parameter_with_its_default():
    content = yaml.safe_load((ROOT / "config" / "detector.yaml").read_text())
    assert content == {"/**": {"ros__parameters": DEFAULTS}}


def test_the_table_is_read_without_rclpy_and_pytorch():
    """So launch files can use it, in whatever Python runs them."""
    loaded = (
        "import sys, ssd_ros.ros.parameter_table; "
        "print({'rclpy', 'rcl_interfaces', 'torch'} & set(sys.modules))"
    )
    result = subprocess.run(
        [sys.executable, "-c", loaded], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "set()"


@pytest.mark.parametrize("name", DETECTOR)
def test_a_launch_argument_becomes_a_value_of_the_parameters_type(name):
    default = DETECTOR[name].default
    text = ",".join(default) if isinstance(default, list) else str(default)
    value = from_text(name, DETECTOR[name], text)
    assert value == default
    assert type(value) is type(default)


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("image_topics", "front/image_raw,rear/image_raw", ["front/image_raw", "rear/image_raw"]),
        ("classes", "[cube, 'cone']", ["cube", "cone"]),
        ("score_threshold", "1", 1.0),
        ("max_detections", "5", 5),
        ("markers", "True", True),
        ("autostart", "no", False),
        ("weights", "1", "1"),
    ],
)
def test_a_launch_argument_is_converted(name, text, value):
    converted = from_text(name, DETECTOR[name], text)
    assert converted == value
    assert type(converted) is type(value)


@pytest.mark.parametrize(
    ("name", "text"), [("markers", "maybe"), ("max_detections", "1.5"), ("score_threshold", "high")]
)
def test_a_launch_argument_of_the_wrong_type_is_named(name, text):
    with pytest.raises(ValueError, match=rf"{name} .*'{text}'"):
        from_text(name, DETECTOR[name], text)


def test_the_launch_file_takes_its_arguments_from_the_table():
    source = (ROOT / "launch" / "detector.launch.py").read_text()
    imported = [
        (statement.module, alias.name)
        for statement in ast.walk(ast.parse(source))
        if isinstance(statement, ast.ImportFrom)
        for alias in statement.names
    ]
    assert ("ssd_ros.ros.parameter_table", "DETECTOR") in imported
    assert not any(f'"{name}"' in source for name in DETECTOR)


def test_the_precisions_of_the_table_are_those_of_the_backend():
    assert DETECTOR["precision"].choices == ("auto", *PRECISIONS)


def test_the_page_has_every_parameter_with_its_default_and_a_star_where_it_is_fixed():
    line = re.compile(r"^\| `(\w+)`( \*)? \| (?:`(.*?)` )?\| \S", re.MULTILINE)
    section = (
        (ROOT / "docs" / "node.md").read_text().partition("## Parameters")[2].partition("\n#")[0]
    )
    found = {
        name: (yaml.safe_load(default or "''"), not star)
        for name, star, default in line.findall(section)
    }
    assert found == {name: (row.default, row.live) for name, row in DETECTOR.items()}


def test_the_node_describes_every_parameter(graph):
    graph.start_detector({"autostart": False})
    client = graph.node.create_client(
        DescribeParameters, graph.name("detector/describe_parameters")
    )
    wait_for(client.service_is_ready, "the service")
    future = client.call_async(DescribeParameters.Request(names=list(DETECTOR)))
    wait_for(future.done, "the descriptions")
    for described, (name, row) in zip(future.result().descriptors, DETECTOR.items(), strict=True):
        assert described.name == name
        assert described.description == row.text
        ranges = [*described.floating_point_range, *described.integer_range]
        if row.bounds:
            assert [(r.from_value, r.to_value) for r in ranges] == [row.bounds]
        elif row.allowed:
            assert row.allowed in described.additional_constraints
        assert ("only while the node is unconfigured" in described.additional_constraints) != (
            row.live
        )


@pytest.mark.parametrize("name", [*DETECTOR, *IMAGE_SOURCE])
def test_a_description_is_a_sentence(name):
    text = (DETECTOR | IMAGE_SOURCE)[name].text
    assert len(text) > 10
    assert text.endswith(".")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("image_topics", []),
        ("image_topics", [""]),
        ("image_topics", ["image_raw", "image_raw"]),
        ("image_transport", "theora"),
        ("image_transport", ""),
        ("precision", "fp8"),
        ("score_threshold", None),
        ("max_detections", 0),
    ],
)
def test_a_wrong_value_is_refused_with_its_name_and_itself(name, value):
    with pytest.raises(ValueError, match=name) as refused:
        Settings.from_values(DEFAULTS | {name: value})
    assert value is None or str(value) in str(refused.value)


def test_defaults_pass_the_check_and_mean_all_classes():
    settings = Settings.from_values(DEFAULTS)
    assert settings.class_filter == ()
    assert settings.thresholds == Thresholds(
        DEFAULTS["score_threshold"], DEFAULTS["nms_iou_threshold"], DEFAULTS["max_detections"]
    )
    assert settings.image_topics == ("image_raw",)
    with_class = Settings.from_values(DEFAULTS | {"classes": ["", "cat"]})
    assert with_class.class_filter == ("cat",)


def test_a_wrong_choice_of_the_image_source_is_refused():
    with pytest.raises(ValueError, match="transport must be one of raw, compressed, both"):
        check_choices(IMAGE_SOURCE, {"transport": "theora"})
