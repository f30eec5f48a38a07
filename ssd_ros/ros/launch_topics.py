# SPDX-License-Identifier: Apache-2.0
"""What a launch file has to know of a detector's topics before the detector runs."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from rclpy.expand_topic_name import expand_topic_name

from ssd_ros.ros.parameter_table import DETECTOR
from ssd_ros.ros.topics import output_namespaces


def parameter_in_file(path: str | Path, node: str, name: str) -> Any:
    """The value that a parameter file gives to a parameter of a node; None if it gives none.

    Args:
        path: the YAML file.
        node: fully qualified name of the node.
        name: of the parameter.
    """
    value = None
    for key, section in (yaml.safe_load(Path(path).read_text()) or {}).items():
        parameters = section.get("ros__parameters") if isinstance(section, dict) else None
        if isinstance(parameters, dict) and _matches(str(key), node):
            value = parameters.get(name, value)
    return value


def _matches(key: str, node: str) -> bool:
    """Whether a key of a parameter file, maybe with wildcards, means a node."""
    pattern = re.escape(f"/{key.lstrip('/')}")
    pattern = pattern.replace(r"/\*\*", "(/[^/]+)*").replace(r"\*", "[^/]+")
    return re.fullmatch(pattern, node) is not None


def output_namespace(
    given: Mapping[str, Any], params_file: str | Path, node: str, namespace: str
) -> str:
    """The namespace of the outputs of a detector's first camera, without remapping rules.

    Args:
        given: parameters that take precedence over those of the file.
        params_file: YAML file of parameters.
        node: name of the node.
        namespace: the node's, absolute.

    Raises:
        ValueError: a name is not a topic name.
    """

    def value(name: str) -> Any:
        if name in given:
            return given[name]
        found = parameter_in_file(params_file, f"{namespace.rstrip('/')}/{node}", name)
        return DETECTOR[name].default if found is None else found

    topics = [expand_topic_name(topic, node, namespace) for topic in value("image_topics")]
    return output_namespaces(topics, value("output_namespace"))[0]
