# SPDX-License-Identifier: Apache-2.0
"""What a launch file has to know of a detector's topics before the detector runs."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from rclpy.expand_topic_name import expand_topic_name

from ssd_ros.ros.parameter_table import DETECTOR, split_list
from ssd_ros.ros.topics import output_namespaces


def parameter_in_file(path: str | Path, node: str, name: str) -> Any:
    """The value that a parameter file gives to a parameter of a node; None if it gives none.

    Args:
        path: the YAML file.
        node: fully qualified name of the node.
        name: of the parameter.
    """
    value = None
    for key, parameters in _sections(yaml.safe_load(Path(path).read_text())):
        if _matches(key, node):
            value = parameters.get(name, value)
    return value


def _sections(tree: Any, key: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Names of nodes and their parameters; a namespace may be a key of its own."""
    for name, inner in tree.items() if isinstance(tree, dict) else ():
        if name == "ros__parameters":
            if isinstance(inner, dict):
                yield key, inner
        else:
            yield from _sections(inner, f"{key}/{str(name).strip('/')}".rstrip("/"))


def _matches(key: str, node: str) -> bool:
    """Whether a key of a parameter file, maybe with wildcards, means a node."""
    pattern = re.escape(key)
    pattern = pattern.replace(r"/\*\*", "(/[^/]+)*").replace(r"\*", "[^/]+")
    return re.fullmatch(pattern, node) is not None


def output_namespace(
    given: Mapping[str, Any], params_file: str | Path, node: str, namespace: str
) -> str | None:
    """The namespace of the outputs of a detector's first camera, without remapping rules.

    None where there is no list of image topics, which the node refuses.

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

    names = value("image_topics")
    names = split_list(names) if isinstance(names, str) else names  # as the node takes it
    if not (isinstance(names, list) and names and all(names)):
        return None
    topics = [expand_topic_name(str(topic), node, namespace) for topic in names]
    return output_namespaces(topics, value("output_namespace"))[0]
