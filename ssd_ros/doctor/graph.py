# SPDX-License-Identifier: Apache-2.0
"""Findings about a ROS graph: discovery, detectors, and whether each image topic would be detected.

Pure: from a `GraphSnapshot`, without ROS.
"""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Mapping, Sequence

from ssd_ros.doctor.finding import FAIL, OK, WARN, Finding, Section
from ssd_ros.ros.graph_snapshot import GraphSnapshot, ImageTopic, RunningDetector
from ssd_ros.ros.image_transport import COMPRESSED_SUFFIX

# Without an image for so long, in seconds and in periods of its rate, a topic has stopped.
_SILENT, _SILENT_PERIODS = 3.0, 3.0
_LEVELS = (OK, WARN, FAIL, WARN)  # of diagnostic_msgs: OK, WARN, ERROR, STALE


def judge(
    snapshot: GraphSnapshot,
    environment: Mapping[str, str] = {},
    multicast: str = "",
) -> list[Section]:
    """Sections about a graph.

    Args:
        environment: variables of the process that looked.
        multicast: why multicast does not work; empty if it does.
    """
    detectors = [
        finding
        for detector in snapshot.detectors
        for finding in _judge_detector(detector, snapshot)
    ]
    topics = [_judge_topic(topic, snapshot) for topic in snapshot.topics]
    watched = f"watched for {snapshot.seconds:g} s"
    return [
        Section("Discovery", _judge_discovery(snapshot, environment, multicast)),
        Section("Detectors", detectors or [Finding(OK, "no running detector was heard of")]),
        Section(f"Image topics ({watched})", topics or [_no_topics(environment)]),
    ]


def _judge_discovery(
    snapshot: GraphSnapshot, environment: Mapping[str, str], multicast: str
) -> list[Finding]:
    findings = []
    multicast = multicast if _needs_multicast(environment) else ""
    if multicast and snapshot.peer_found:
        findings.append(
            Finding(
                WARN,
                f"no multicast ({multicast}): nodes on other machines are not found",
                _fix_of_discovery(environment),
            )
        )
    if snapshot.peer_failure:
        text = "whether nodes find each other could not be checked with a second node: "
        fix = "run this again; python -m ssd_ros.ros.discovery_peer NAME shows what it fails with"
        findings.append(Finding(WARN, text + snapshot.peer_failure, fix))
    elif snapshot.peer_found:
        findings.append(Finding(OK, "nodes in two processes of this machine find each other"))
    else:
        findings.append(
            Finding(
                FAIL,
                "nodes in two processes of this machine do not find each other"
                + (f": no multicast ({multicast})" if multicast else ""),
                _fix_of_discovery(environment),
            )
        )
    for name, count in Counter(snapshot.nodes).items():
        if count > 1:
            findings.append(
                Finding(
                    WARN,
                    f"{count} nodes are named {name}: parameters and services reach any of them",
                    "give them names or namespaces of their own: --ros-args -r __node:=NAME or "
                    "-r __ns:=/NAMESPACE; or end the one that is left over",
                )
            )
    return findings


def _needs_multicast(environment: Mapping[str, str]) -> bool:
    """Whether nodes of other machines are looked for, and found by multicast only."""
    if _uses_zenoh(environment) or environment.get("ROS_DISCOVERY_SERVER"):
        return False
    if environment.get("ROS_LOCALHOST_ONLY") == "1":
        return False
    return _is_humble(environment) or not (
        environment.get("ROS_STATIC_PEERS")
        or environment.get("ROS_AUTOMATIC_DISCOVERY_RANGE", "").upper() in ("LOCALHOST", "OFF")
    )


def _uses_zenoh(environment: Mapping[str, str]) -> bool:
    return "zenoh" in environment.get("RMW_IMPLEMENTATION", "")


def _is_humble(environment: Mapping[str, str]) -> bool:
    """Whether ROS has neither ROS_STATIC_PEERS nor ROS_AUTOMATIC_DISCOVERY_RANGE."""
    return environment.get("ROS_DISTRO") == "humble"


def _fix_of_discovery(environment: Mapping[str, str]) -> str:
    if _uses_zenoh(environment):
        return "start Zenoh's router: ros2 run rmw_zenoh_cpp rmw_zenohd"
    if environment.get("ROS_AUTOMATIC_DISCOVERY_RANGE", "").upper() == "OFF":
        return "unset ROS_AUTOMATIC_DISCOVERY_RANGE, which is OFF"
    if environment.get("ROS_DISCOVERY_SERVER"):
        return "start the discovery server at ROS_DISCOVERY_SERVER, or unset that variable"
    others = "start a discovery server and set ROS_DISCOVERY_SERVER"
    if not _is_humble(environment):
        others = "name the other machines in ROS_STATIC_PEERS"
    return (
        "allow multicast on the network interface (ip link set INTERFACE multicast on; firewall: "
        f"UDP 7400 to 7500 and 239.255.0.1; containers: --net=host), or {others}"
    )


def _judge_detector(detector: RunningDetector, snapshot: GraphSnapshot) -> list[Finding]:
    name = detector.name
    if not detector.state:
        return [
            Finding(
                WARN,
                f"{name} does not answer: it is busy, has just ended, or is on a machine that "
                "cannot reach this one",
                "look at its log; end it and start it again",
            )
        ]
    findings = [_state(detector), *_statuses(detector)]
    if detector.parameters.get("use_sim_time") and not snapshot.has_clock:
        findings.append(
            Finding(
                WARN,
                f"{name} uses simulated time, but /clock has no publishers: latencies are not "
                "measured, and max_frame_age drops no image",
                f"ros2 param set {name} use_sim_time false, or start the simulation, or ros2 bag "
                "play --clock",
            )
        )
    for topic, connections in detector.subscriptions.items():
        if not connections:
            nearest = _nearest(topic, snapshot.existing)
            findings.append(
                Finding(
                    FAIL,
                    f"{name}: {topic} has no publishers",
                    f"start the camera driver, or set image_topics:={nearest}",
                )
            )
        findings += [
            Finding(FAIL, f"{name}: {topic} of {c.publisher}: {c.obstacle}", c.fix)
            for c in connections
            if c.obstacle
        ]
    return findings


def _statuses(detector: RunningDetector) -> list[Finding]:
    """What /diagnostics tells, but for what the subscriptions and the state tell more exactly."""
    told = {
        f"{detector.name}: {topic}"
        for topic, connections in detector.subscriptions.items()
        if not connections or any(connection.obstacle for connection in connections)
    }
    return [
        Finding(
            _LEVELS[min(level, 3)],
            f"{source}: {text}",
            _fix_of_status(detector.name, text),
        )
        for level, source, text in detector.statuses
        if level and source != detector.name and source not in told
    ]


def _state(detector: RunningDetector) -> Finding:
    name, state = detector.name, detector.state
    level, own = {s: (level, text) for level, s, text in detector.statuses}.get(name, (0, ""))
    told = f": {own}" if own and own != state else ""
    text = f"{name} is {state}, weights {detector.parameters.get('weights')}{told}"
    if level == 2:
        return Finding(FAIL, text, _fix_of_status(name, own))
    if state == "active" and own == "paused":
        enable = f'ros2 service call {name}/enable std_srvs/srv/SetBool "{{data: true}}"'
        return Finding(WARN, text, enable)
    if state == "active":
        return Finding(WARN, text, _fix_of_status(name, own)) if level == 1 else Finding(OK, text)
    steps = ("configure", "activate") if state == "unconfigured" else ("activate",)
    commands = "; ".join(f"ros2 lifecycle set {name} {step}" for step in steps)
    return Finding(WARN, text, f"{commands}, once what is wrong is corrected")


def _fix_of_status(detector: str, text: str) -> str:
    if "weights" in text:
        steps = "; ".join(f"ros2 lifecycle set {detector} {s}" for s in ("configure", "activate"))
        return f"ros2 param set {detector} weights FILE; {steps}"
    return "docs/troubleshooting.md has an entry for this text"


def _judge_topic(topic: ImageTopic, snapshot: GraphSnapshot) -> Finding:
    if not topic.kind:
        return Finding(
            FAIL,
            f"{topic.name} has no publishers",
            "start the camera driver in the same ROS domain, or use "
            f"{_nearest(topic.name, snapshot.existing)}",
        )
    bad = FAIL if snapshot.asked else WARN
    kind = topic.kind.rpartition("/")[2]
    if not topic.connections:
        return Finding(
            bad,
            f"{topic.name}: {kind}, its publisher has ended while this watched",
            "start the camera driver again; its log may say why it ended",
        )
    publishers = ", ".join(sorted({c.publisher for c in topic.connections}))
    text = f"{topic.name}: {kind}, {topic.qos}, from {publishers}"
    if kind == "CompressedImage" and not topic.name.endswith(COMPRESSED_SUFFIX):
        return Finding(
            bad,
            f"{text}: the name does not end in {COMPRESSED_SUFFIX}, as image_transport names it",
            f"remap it: -r {topic.name}:={topic.name}{COMPRESSED_SUFFIX}",
        )
    if not topic.received:
        blocked = next((c for c in topic.connections if c.obstacle), None)
        if blocked:
            return Finding(bad, f"{text}: {blocked.obstacle}", blocked.fix)
        return Finding(
            bad,
            f"{text}: no image in {snapshot.seconds:g} s",
            "the driver sends none (it may need to be triggered or activated), or all are lost in "
            "transport: start both with the Fast DDS profile; or listen longer, with --seconds",
        )
    rate = f"{topic.rate:.1f} Hz" if topic.rate else f"{topic.received} image"
    if topic.error:
        return Finding(
            bad,
            f"{text}, {rate}: {topic.error}",
            "docs/troubleshooting.md has an entry for this text",
        )
    if topic.rate and topic.silence > max(_SILENT, _SILENT_PERIODS / topic.rate):
        return Finding(
            bad,
            f"{text}, {topic.image}, {rate}: the images stopped {topic.silence:.0f} s ago",
            "the driver is paused, hangs or was killed: look at its log",
        )
    if not topic.stamped:
        return Finding(
            WARN,
            f"{text}, {topic.image}, {rate}: the stamp is 0, so that latency is not measured and "
            "max_frame_age drops every image",
            "let the driver set header.stamp",
        )
    return Finding(OK, f"{text}, {topic.image}, {rate}: works with {_arguments(topic)}")


def _arguments(topic: ImageTopic) -> str:
    if topic.kind.endswith("CompressedImage"):
        base = topic.name.removesuffix(COMPRESSED_SUFFIX)
        return f"image_topics:={base} image_transport:=compressed"
    return f"image_topics:={topic.name}"


def _no_topics(environment: Mapping[str, str]) -> Finding:
    domain = environment.get("ROS_DOMAIN_ID") or "0"
    return Finding(
        WARN,
        "no image topic exists",
        f"start the camera driver, in ROS domain {domain} as this shell (ROS_DOMAIN_ID); without a "
        "camera: ros2 run ssd_ros image_source --ros-args -p source:=FOLDER",
    )


def _nearest(name: str, others: Sequence[str]) -> str:
    """The most similar of other topics, else all of them."""
    near = difflib.get_close_matches(name, others, n=1)
    return near[0] if near else " or ".join(others) or "a topic that exists"
