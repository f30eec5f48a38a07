# SPDX-License-Identifier: Apache-2.0
"""The detector's parameters: the same in node, parameter file, launch file and docs/node.md."""

import ast
import re
import runpy
import subprocess
import sys

import pytest
import yaml

pytest.importorskip("rclpy", reason="needs ROS 2 (pip_ros/install.py brings it)")

from graph import ROOT
from rcl_interfaces.srv import DescribeParameters
from rclpy.node import Node
from rclpy.parameter import Parameter
from services import Services
from waiting import wait_for

from ssd_ros.backends.backend import PRECISIONS
from ssd_ros.detections import Thresholds
from ssd_ros.ros import parameter_docs
from ssd_ros.ros.parameter_table import DETECTOR, IMAGE_SOURCE, check_choices, from_text
from ssd_ros.ros.parameters import declare
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


def test_the_documentation_has_every_parameter_as_the_table_tells_it():
    pages = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
    (page,) = [page for page in pages if parameter_docs.HEADER in page.read_text()]
    renew = f"python -m ssd_ros.ros.parameter_docs {page.relative_to(ROOT)}"
    found = parameter_docs.table_in(page.read_text())
    assert found == parameter_docs.markdown_table(), f"not up to date: {renew}"


def test_the_table_in_a_page_is_replaced_and_nothing_else(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(f"before\n\n{parameter_docs.HEADER}\n|---|---|---|\n| old |\n\n| other |\n")
    assert parameter_docs.main([str(page)]) == 0
    assert page.read_text() == f"before\n\n{parameter_docs.markdown_table()}\n| other |\n"


def test_the_documented_defaults_are_those_of_a_parameter_file():
    row = re.compile(r"^\| `(\w+)`( \*)? \| `(.*?)` \| \S", re.MULTILINE)
    found = {
        name: (yaml.safe_load(default), not star)
        for name, star, default in row.findall(parameter_docs.markdown_table())
    }
    assert found == {name: (spec.default, spec.live) for name, spec in DETECTOR.items()}


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
        ("web_host", ""),
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


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("score_threshold", "high", "'score_threshold' is 'high' (STRING), expected a number"),
        ("max_detections", 1.5, "'max_detections' is 1.5 (DOUBLE), expected a whole number"),
        ("markers", 1, "'markers' is 1 (INTEGER), expected true or false"),
        ("weights", 5, "'weights' is 5 (INTEGER), expected a text; one that looks like a number"),
        ("classes", 5, "'classes' is 5 (INTEGER), expected a list of texts, such as [a, b]"),
    ],
)
def test_a_start_value_of_another_type_is_refused_with_what_to_write(
    rclpy_started, name, value, told
):
    node = Node("declaring", parameter_overrides=[Parameter(name, value=value)])
    with pytest.raises(ValueError, match=re.escape(told)):
        declare(node, name, DETECTOR[name])
    node.destroy_node()


def test_values_are_taken_whose_type_alone_differs_and_unknown_names_are_warned_of(
    graph, parameters
):
    given = {"score_threshold": 1, "image_timeout": 2, "classes": [], "image_topics": "image_raw"}
    process = graph.start_process(
        "ssd_ros.ros.detector_node", {**parameters, **given, "score_treshold": 0.3, "wheels": 4}
    )
    wait_for(lambda: "detecting on" in process.log or not process.alive, "the start of the node")
    assert process.alive, process.log
    node = Services(graph)
    wait_for(lambda: node.state == "active", f"the node to be active; log: {process.log}")
    assert (node.get("score_threshold"), node.get("image_timeout")) == (1.0, 2.0)
    assert (node.get("classes"), node.get("image_topics")) == ([""], ["image_raw"])
    nearest = "unknown parameter 'score_treshold' is ignored; did you mean 'score_threshold'?"
    assert nearest in process.log
    assert "unknown parameter 'wheels' is ignored; there are: image_topics, " in process.log
    assert node.set("score_threshold", 0).successful
    assert node.set("classes", "cube,cone").successful
    assert (node.get("score_threshold"), node.get("classes")) == (0.0, ["cube", "cone"])
    assert node.set("classes", []).successful
    assert node.set_together(classes=["cube"], nms_iou_threshold=1).successful
    refused = node.set("score_threshold", "high")
    assert not refused.successful
    assert "DOUBLE" in refused.reason


def test_every_parameter_is_a_launch_argument_with_its_text():
    pytest.importorskip("launch_ros.actions", reason="needs ros2/launch_ros, which PyPI lacks")
    actions = pytest.importorskip("launch.actions")
    file = runpy.run_path(str(ROOT / "launch" / "detector.launch.py"))
    arguments = {
        entity.name: entity.description
        for entity in file["generate_launch_description"]().entities
        if isinstance(entity, actions.DeclareLaunchArgument)
    }
    for name, spec in DETECTOR.items():
        assert arguments[name].startswith(spec.described)
