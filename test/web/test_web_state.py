# SPDX-License-Identifier: Apache-2.0
"""What the web page shows beside the images."""

from types import SimpleNamespace

import pytest

from ssd_ros.web.rules import as_json
from ssd_ros.web.state import PageState


def status(name, level=0, message="", **values):
    pairs = [SimpleNamespace(key=k.replace("_", " "), value=v) for k, v in values.items()]
    return SimpleNamespace(name=name, level=bytes([level]), message=message, values=pairs)


def camera(processed, **more):
    return status("/robot/detector: /front/image_raw", processed=str(processed), **more)


def shown(state):
    content = state.to_dict(0.5, [""], ["cat", "cup"])
    as_json(content)
    return content


def test_before_the_first_diagnostics_the_node_is_starting():
    content = shown(PageState("/robot/detector"))
    assert content["node"]["message"] == "starting"
    assert content["cameras"] == []
    assert (content["score_threshold"], content["class_filter"]) == (0.5, [])
    assert content["classes"] == ["cat", "cup"]


def test_node_and_cameras_are_shown_in_the_words_of_the_diagnostics():
    state = PageState("/robot/detector")
    own = status(
        "/robot/detector", 2, "cannot configure: no file", **{"inference median (ms)": "7.5"}
    )
    silent = "no image on '/front/image_raw' for 5 s: topic has no publishers."
    values = {"latency median (ms)": "24.0"}
    state.note([own, camera(3, level=3, message=silent, **values)], 10.0)
    content = shown(state)
    assert content["node"] == {
        "name": "/robot/detector",
        "level": "error",
        "message": "cannot configure: no file",
        "inference_ms": 7.5,
    }
    assert content["cameras"] == [
        {
            "topic": "/front/image_raw",
            "level": "stale",
            "message": silent,
            "rate": None,
            "latency_ms": 24.0,
        }
    ]


def test_the_rate_is_that_between_two_messages():
    state = PageState("/robot/detector")
    rates = []
    for time, count in ((1.0, 5), (2.0, 35), (4.0, 35), (5.0, 2), (6.0, 12), (6.0, 14)):
        state.note([camera(count)], time)
        rates.append(shown(state)["cameras"][0]["rate"])
    assert rates == [None, 30.0, 0.0, None, 10.0, None]  # the node was configured anew at 5


@pytest.mark.parametrize("text", ["nan", "inf", "many", ""])
def test_what_is_no_number_is_left_out(text):
    state = PageState("/robot/detector")
    state.note([camera(text, **{"latency median (ms)": text})], 1.0)
    state.note([camera(text, level=9)], 2.0)
    assert shown(state)["cameras"][0]["rate"] is None
    assert shown(state)["cameras"][0]["latency_ms"] is None
