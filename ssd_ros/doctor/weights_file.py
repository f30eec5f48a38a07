# SPDX-License-Identifier: Apache-2.0
"""Whether a weights file can be used."""

from __future__ import annotations

from ssd_ros.doctor.finding import FAIL, OK, WARN, Finding
from ssd_ros.weights.names import NAMED, missing
from ssd_ros.weights.reader import read
from ssd_ros.weights.weights import Weights, WeightsError


def judge(name: str) -> list[Finding]:
    """Findings about weights, which are read completely; nothing is downloaded.

    Args:
        name: value of the parameter `weights`.
    """
    if missing(name):
        named = NAMED[name]
        return [
            Finding(
                WARN,
                f"'{name}' is not downloaded yet; that happens at the first start",
                f"without a network on the robot, put {named.url} at {named.path}; with one, "
                f"python -m ssd_ros.weights info {name} downloads it now",
            )
        ]
    try:
        return [Finding(OK, _describe(name, read(name)))]
    except WeightsError as error:
        fix = "python -m ssd_ros.weights list names weights that work, such as demo"
        return [Finding(FAIL, str(error), fix)]


def _describe(name: str, weights: Weights) -> str:
    classes = ", ".join(weights.classes[:5]) + (", …" if len(weights.classes) > 5 else "")
    quantised = "quantised" if weights.quantisation else "not quantised"
    return f"'{name}': {len(weights.classes)} classes ({classes}), {quantised}"
