# SPDX-License-Identifier: Apache-2.0
"""config/detector.rviz has what RViz reads without a default.

Read in RViz's sources (rviz_common of Humble to Rolling): a missing key of these either leaves a
variable unset, or drops what it belongs to.
"""

from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
FILE = yaml.safe_load((ROOT / "config" / "detector.rviz").read_text())
MANAGER, WINDOW = FILE["Visualization Manager"], FILE["Window Geometry"]
# Read only together: one of them alone has no effect.
TOGETHER = (("Width", "Height"), ("X", "Y"), ("Tree Height", "Help Height"))


def mappings(node):
    """Every mapping in the file."""
    if isinstance(node, dict):
        yield node
    for child in (
        node.values() if isinstance(node, dict) else node if isinstance(node, list) else ()
    ):
        yield from mappings(child)


def test_the_docks_are_shown_or_hidden_as_the_file_says():
    """VisualizationFrame::loadWindowGeometry has one variable for both, without a value."""
    assert type(WINDOW["Hide Left Dock"]) is bool
    assert type(WINDOW["Hide Right Dock"]) is bool


@pytest.mark.parametrize(
    "part", [*FILE["Panels"], *MANAGER["Displays"], MANAGER["Views"]["Current"]]
)
def test_every_panel_display_and_view_has_class_and_name(part):
    assert {"Class", "Name"} <= set(part)
    assert "/" in part["Class"]


def test_every_tool_has_a_class():
    assert all("/" in tool["Class"] for tool in MANAGER["Tools"])


def test_every_display_says_whether_it_is_enabled_in_both_ways_that_rviz_reads():
    for display in MANAGER["Displays"]:
        assert display["Enabled"] is display["Value"] is True


def test_keys_that_count_only_together_are_together():
    for mapping in mappings(FILE):
        for one, other in TOGETHER:
            assert (one in mapping) == (other in mapping), f"{one} and {other} in {mapping}"
    assert set(MANAGER["Views"]["Current"]["Focal Point"]) == {"X", "Y", "Z"}


def test_the_window_has_a_state_whose_docks_exist():
    """QMainWindow::restoreState finds docks by their names; each starts with the byte fb."""
    state, names, at = bytes.fromhex(WINDOW["QMainWindow State"]), set(), 0
    while (at := state.find(b"\xfb\x00\x00\x00", at)) >= 0:
        length = int.from_bytes(state[at + 1 : at + 5], "big")
        names.add(state[at + 5 : at + 5 + length].decode("utf-16-be"))
        at += 1
    docks = {part["Name"] for part in FILE["Panels"]} | {"Detections"}
    assert names == docks
    assert docks <= set(WINDOW), "each dock says whether it is collapsed"
    assert "Detections" in {display["Name"] for display in MANAGER["Displays"]}


def test_the_topics_are_the_nodes_own_and_received_as_they_are_published():
    topics = {display["Topic"]["Value"]: display["Topic"] for display in MANAGER["Displays"]}
    assert set(topics) == {"/detections_image", "/detections_markers"}
    for topic in topics.values():
        assert topic["Reliability Policy"] == "Reliable"
        assert topic["Durability Policy"] == "Volatile"
        assert topic["History Policy"] == "Keep Last"
