# SPDX-License-Identifier: Apache-2.0
"""The detector's parameters: the same in node, parameter file, launch file and README."""

import ast
import re

import pytest
import yaml

pytest.importorskip("rclpy", reason="needs ROS 2 (pip_ros/install.py brings it)")

from rcl_interfaces.srv import DescribeParameters
from ros_graph import ROOT, wait_for

from ssd_ros.ros.parameters import PARAMETERS, check, chosen_classes, limits

DEFAULTS = {name: row.default for name, row in PARAMETERS.items()}


def constants_of(file) -> dict:
    """Literal constants of a Python file, read without running it."""
    values = {}
    for statement in ast.parse(file.read_text()).body:
        if isinstance(statement, ast.Assign) and statement.targets[0].id.isupper():
            try:
                values[statement.targets[0].id] = ast.literal_eval(statement.value)
            except ValueError:
                continue  # not a literal
    return values


def test_the_parameter_file_holds_every_parameter_with_its_default():
    content = yaml.safe_load((ROOT / "config" / "detector.yaml").read_text())
    assert content == {"/**": {"ros__parameters": DEFAULTS}}


def test_the_launch_file_has_an_argument_for_every_parameter_and_knows_its_type():
    constants = constants_of(ROOT / "launch" / "detector.launch.py")
    assert list(constants["PARAMETERS"]) == list(DEFAULTS)
    assert all(constants["PARAMETERS"].values())

    def of_type(kind):
        return {name for name, default in DEFAULTS.items() if isinstance(default, kind)}

    assert set(constants["LISTS"]) == of_type(list)
    assert set(constants["TEXTS"]) == of_type(str)


def test_the_readme_has_every_parameter_with_its_default_and_a_star_where_it_is_fixed():
    line = re.compile(r"^\| `(\w+)`( \*)? \| (?:`(.*?)` )?\| \S", re.MULTILINE)
    section = (ROOT / "README.md").read_text().partition("### Parameters")[2].partition("\n#")[0]
    found = {
        name: (yaml.safe_load(default or "''"), not star)
        for name, star, default in line.findall(section)
    }
    assert found == {name: (row.default, row.live) for name, row in PARAMETERS.items()}


def test_the_node_describes_every_parameter(graph):
    graph.start_detector({"autostart": False})
    client = graph.node.create_client(
        DescribeParameters, graph.name("detector/describe_parameters")
    )
    wait_for(client.service_is_ready, "the service")
    future = client.call_async(DescribeParameters.Request(names=list(PARAMETERS)))
    wait_for(future.done, "the descriptions")
    for described, (name, row) in zip(future.result().descriptors, PARAMETERS.items(), strict=True):
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


@pytest.mark.parametrize("name", PARAMETERS)
def test_a_description_is_a_sentence(name):
    text = PARAMETERS[name].text
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
    ],
)
def test_a_wrong_value_is_refused_with_its_name_and_itself(name, value):
    with pytest.raises(ValueError, match=name) as refused:
        check(DEFAULTS | {name: value})
    assert str(value) in str(refused.value)


def test_defaults_pass_the_check_and_mean_all_classes():
    check(DEFAULTS)
    assert chosen_classes(DEFAULTS) == []
    assert limits(DEFAULTS).score_threshold == DEFAULTS["score_threshold"]
    assert chosen_classes({"classes": ["", "cat"]}) == ["cat"]
