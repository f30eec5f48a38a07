# SPDX-License-Identifier: Apache-2.0
"""The web page of a running node: real requests to a real node."""

import contextlib
import errno
import http.client
import json
import random
import re
import signal
import socket
import sys
import threading
import time

import cv2
import numpy as np
import psutil
import pytest

pytest.importorskip("rclpy", reason="needs ROS 2 (pip_ros/install.py brings it)")
pytest.importorskip("aiohttp", reason="needs requirements-demo.txt")

from diagnostic_msgs.msg import DiagnosticStatus
from graph import ROOT
from made_weights import CLASSES
from played_camera import PlayedCamera, names_in, scores_in
from services import Services
from waiting import PATIENCE, wait_for

from ssd_ros.ros.detector_node import DetectorNode
from ssd_ros.web import application, server


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Browser:
    """Requests as the page makes them."""

    def __init__(self, port):
        self.port = port
        self.host = f"127.0.0.1:{port}"

    def request(self, method, path, body=None, **headers):
        """Status, headers and body of the answer; `Content_Type="…"` replaces a header."""
        sent = {"Host": self.host}
        if method == "POST":
            sent |= {"Origin": f"http://{self.host}", "Content-Type": "application/json"}
        sent |= {name.replace("_", "-"): value for name, value in headers.items()}
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        try:
            connection.request(method, path, body, {k: v for k, v in sent.items() if v})
            answer = connection.getresponse()
            return answer.status, answer.headers, answer.read()
        finally:
            connection.close()

    def state(self):
        status, _, body = self.request("GET", "/state")
        assert status == 200
        return json.loads(body)

    def change(self, **values):
        """Status and reason."""
        status, _, body = self.request("POST", "/parameters", json.dumps(values))
        return status, json.loads(body)["reason"]

    def open_stream(self, topic):
        """A connection on which images come; nothing is read yet."""
        connection = socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE)
        connection.sendall(f"GET /stream{topic} HTTP/1.1\r\nHost: {self.host}\r\n\r\n".encode())
        return connection


class Viewer:
    """Reads the images of a stream."""

    def __init__(self, browser, topic):
        self.connection = browser.open_stream(topic)
        self._file = self.connection.makefile("rb")
        self.status = int(self._file.readline().split()[1])

    def image(self):
        """The next image, BGR."""
        length = None
        while length is None:
            line = self._file.readline().lower()
            assert line, "the stream ended"
            if line.startswith(b"content-length:"):
                length = int(line.split(b":")[1])
        while self._file.readline().strip():
            pass
        return cv2.imdecode(np.frombuffer(self._read(length), np.uint8), cv2.IMREAD_COLOR)

    def _read(self, length):
        """Bytes of a part; it is in one piece of the chunked answer."""
        data = self._file.read(length)
        assert len(data) == length
        return data

    def close(self):
        self._file.close()
        self.connection.close()


@pytest.fixture
def page(graph, parameters):
    """Starts a detector with a page, and gives its browser."""

    def start(**more):
        port = free_port()
        graph.start_detector({**parameters, "web_port": port, **more})
        return Browser(port)

    return start


def test_the_page_is_one_file_that_loads_nothing_from_elsewhere(page):
    browser = page(autostart=False)
    status, headers, body = browser.request("GET", "/")
    assert (status, headers.get_content_type()) == (200, "text/html")
    text = body.decode()
    assert re.findall(r"""(?:src|href)=["']?([^"'>]*)""", text) == ["data:,"]
    assert not re.search(r"http|url\(|@import|import\(", text)
    assert "default-src 'none'" in headers["Content-Security-Policy"]
    assert headers["Cross-Origin-Resource-Policy"] == "same-origin"
    for path in ("/nothing", "/stream/no/such/topic", "/page.html", "/../setup.py"):
        assert browser.request("GET", path)[0] == 404


def test_the_state_tells_what_the_diagnostics_tell(graph, page, images):
    browser = page(image_timeout=0.5)
    silent = wait_for(
        lambda: [c for c in browser.state()["cameras"] if "no publishers" in c["message"]],
        "the diagnostics' words",
    )[0]
    assert silent["message"].startswith(f"no image on '{graph.name('image_raw')}'")
    assert silent["level"] == "warn"
    PlayedCamera(graph).stream(images[0])
    seen = wait_for(
        lambda: [c for c in browser.state()["cameras"] if c["rate"] and c["latency_ms"]], "a rate"
    )[0]
    assert seen["topic"] == graph.name("image_raw")
    assert seen["level"] == "ok"
    state = browser.state()
    assert state["node"]["name"] == graph.name("detector")
    assert state["node"]["message"] == "detecting"
    assert state["classes"] == list(CLASSES)


def test_the_stream_shows_the_annotated_image_and_nothing_is_drawn_without_a_viewer(
    graph, page, images, monkeypatch
):
    drawn = []
    original = application.Stream.offer
    monkeypatch.setattr(
        application.Stream,
        "offer",
        lambda stream, frame: drawn.append(frame) or original(stream, frame),
    )
    browser = page()
    camera = PlayedCamera(graph)
    camera.detect(images[0])
    assert not drawn
    camera.stream(images[0])
    viewers = [Viewer(browser, camera.topic) for _ in range(2)]
    for viewer in viewers:
        assert viewer.status == 200
        shown = viewer.image()
        assert shown.shape == images[0].shape
        changed = (np.abs(shown.astype(int) - images[0]) > 60).any(axis=2).mean()
        assert 0.01 < changed < 0.9  # outlines and names
        viewer.close()

    def nothing_is_drawn():
        before = len(drawn)
        graph.next_diagnostics()
        return len(drawn) == before

    wait_for(nothing_is_drawn, "the viewers to be gone")
    assert graph.camera_status().level == DiagnosticStatus.OK


def test_the_threshold_and_the_filter_change_what_is_published(graph, page, images):
    browser = page()
    camera, node = PlayedCamera(graph), Services(graph)
    found = camera.detect(images[0])
    limit = (max(scores_in(found)) + min(scores_in(found))) / 2
    assert browser.change(score_threshold=limit) == (200, "")
    assert node.get("score_threshold") == limit
    camera.detections.clear()
    assert min(scores_in(camera.detect(images[0])), default=1) > limit
    name = names_in(found)[0]
    assert browser.change(score_threshold=0.5, classes=[name]) == (200, "")
    assert list(node.get("classes")) == [name]
    camera.detections.clear()
    assert set(names_in(camera.detect(images[0]))) == {name}
    state = browser.state()
    assert (state["score_threshold"], state["class_filter"]) == (0.5, [name])
    assert browser.change(classes=[]) == (200, "")
    assert node.get("classes") == [""]


def test_a_change_is_refused_for_the_reason_that_the_service_gives(graph, page):
    browser = page()
    node = Services(graph)
    for value in (1.5, -0.1):
        status, reason = browser.change(score_threshold=value)
        assert status == 409
        assert reason == node.set("score_threshold", value).reason
    # All of a change or nothing.
    assert browser.change(classes=[CLASSES[0]], score_threshold=1.5)[0] == 409
    assert node.get("classes") == [""]
    assert node.get("score_threshold") == 0.5


def test_requests_of_other_sites_are_refused(graph, page, monkeypatch):
    asked = []
    monkeypatch.setattr(
        DetectorNode, "set_parameters_atomically", lambda _, given: asked.append(given)
    )
    browser = page()
    good = json.dumps({"score_threshold": 0.25})
    for headers, status in (
        ({"Host": "evil.example"}, 403),
        ({"Host": f"evil.example:{browser.port}"}, 403),
        ({"Origin": ""}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": f"http://127.0.0.1:{browser.port + 1}"}, 403),
        ({"Sec_Fetch_Site": "cross-site"}, 403),
        ({"Content_Type": "text/plain"}, 415),
        ({"Content_Type": "application/x-www-form-urlencoded"}, 415),
        ({"Content_Type": ""}, 415),
    ):
        assert browser.request("POST", "/parameters", good, **headers)[0] == status, headers
    for path in ("/", "/state", f"/stream{graph.name('image_raw')}", "/nothing"):
        assert browser.request("GET", path, Host="evil.example")[0] == 403
        assert browser.request("GET", path, Origin="http://evil.example")[0] == 403
    assert browser.request("POST", "/parameters", "x" * 100_000)[0] in (400, 413)
    for method in ("PUT", "DELETE", "PATCH", "OPTIONS"):
        assert browser.request(method, "/parameters", good)[0] == 403
        origin = f"http://{browser.host}"
        assert browser.request(method, "/parameters", good, Origin=origin)[0] == 405
    assert not asked


# --- what breaks ------------------------------------------------------------------------------


def mangled(rng, browser):
    """Noise, or a valid change of a parameter with at least one thing wrong.

    Also whether it is whole; for the rest of others a server waits.
    """
    host, origin = browser.host, f"http://{browser.host}"
    if rng.random() < 0.2:
        noise = rng.randbytes(rng.randint(1, 300))
        return rng.choice([noise, b"POST /parameters HTTP/1.1\r\n" + noise]), False
    body = b'{"score_threshold": 0.25}'
    request = {
        "method": b"POST",
        "path": b"/parameters",
        "host": host,
        "origin": origin,
        "type": "application/json",
        "body": body,
    }
    wrong = {
        "method": [b"GET", b"PUT", b"HEAD", b"\0", b"CONNECT", b"OPTIONS", b"TRACE"],
        "path": [
            b"/",
            b"/state",
            b"/parameters/",
            b"//parameters",
            b"*",
            b"/%00",
            b"/" + 9000 * b"a",
        ],
        "host": [
            None,
            "",
            "evil.example",
            f"evil.example:{browser.port}",
            "[::1",
            f"{host}, {host}",
        ],
        "origin": [None, "", "null", "http://evil.example", "http://localhost", f"{origin}.evil"],
        "type": [None, "", "text/plain", "application/xml", "multipart/form-data; boundary=x"],
        "body": [b"", b"{", b"[]", b'{"weights": "x"}', b'{"score_threshold": NaN}', b"[" * 5000]
        + [b'{"classes": 1}', b'{"score_threshold": "0.2"}', rng.randbytes(rng.randint(0, 200))],
    }
    for name in rng.sample(sorted(wrong), rng.choice([1, 1, 2, 3])):
        request[name] = rng.choice(wrong[name])
    lines = [b"%b %b HTTP/1.1" % (request["method"], request["path"])]
    for name, header in (("host", "Host"), ("origin", "Origin"), ("type", "Content-Type")):
        if request[name] is not None:
            lines.append(f"{header}: {request[name]}".encode())
    length, more = len(request["body"]), rng.choice([0, 0, 0, 5])
    lines.append(b"Content-Length: %d" % (length + more))
    return b"\r\n".join(lines) + b"\r\n\r\n" + request["body"], not more


def end_sending(connection):
    try:
        connection.shutdown(socket.SHUT_WR)
    except OSError as error:  # ENOTCONN is no ConnectionError: the node has reset it already
        if error.errno != errno.ENOTCONN:
            raise


def test_two_thousand_bad_requests_never_reach_the_node(graph, page, images, monkeypatch):
    asked = []
    original = DetectorNode.set_parameters_atomically
    monkeypatch.setattr(
        DetectorNode,
        "set_parameters_atomically",
        lambda node, given: asked.append(given) or original(node, given),
    )
    browser, rng = page(), random.Random(0)
    answers = []
    for _ in range(2000):
        with socket.create_connection(("127.0.0.1", browser.port), timeout=PATIENCE) as connection:
            content, whole = mangled(rng, browser)
            with contextlib.suppress(ConnectionError):
                connection.sendall(content)
                if not whole:
                    end_sending(connection)
                answers += connection.recv(100).split(b" ")[1:2]
    assert not asked
    assert set(answers) >= {b"400", b"403", b"404", b"405", b"415"}
    assert graph.status("detector").values["failed callbacks"] == "0"
    wait_for(lambda: browser_answers(browser), "the server to have noticed that all are gone")
    assert browser.change(score_threshold=0.25) == (200, "")
    assert len(asked) == 1
    PlayedCamera(graph).detect(images[0])


def test_viewers_that_never_read_and_connections_that_say_nothing_cost_only_themselves(
    graph, page, images, monkeypatch
):
    monkeypatch.setattr(application, "STALLED", 2 * PATIENCE)
    browser = page()
    camera = PlayedCamera(graph)
    camera.stream(images[2], rate=60)
    silent = [browser.open_stream(camera.topic) for _ in range(10)]
    reading = [Viewer(browser, camera.topic) for _ in range(10)]
    try:
        for _ in range(5):
            for viewer in reading:
                viewer.image()
        more = [Viewer(browser, camera.topic) for _ in range(application.MAX_VIEWERS - 19)]
        assert more[-1].status == 503
        reading += more
        for _ in range(server.MAX_CONNECTIONS):
            silent.append(socket.create_connection(("127.0.0.1", browser.port), timeout=PATIENCE))
        reading[0].image()
        assert silent[-1].recv(1) == b""  # closed at once
        processed = graph.camera_status().count("processed")
        graph.camera_status(processed=processed + 10)
    finally:
        for one in (*silent, *reading):
            one.close()
    wait_for(lambda: browser_answers(browser), "the connections to be free again")


def test_a_viewer_that_has_stopped_reading_is_disconnected(graph, page, images, monkeypatch):
    monkeypatch.setattr(application, "STALLED", 0.2)
    browser = page()
    camera = PlayedCamera(graph)
    camera.stream(images[2], rate=60)
    silent = browser.open_stream(camera.topic)
    silent.recv(1)
    descriptors = psutil.Process()
    wait_for(lambda: not connected(descriptors, silent), "the connection to be closed")
    silent.close()


def connected(process, client):
    """Whether the server has its end of a connection of this process."""
    own = client.getsockname()
    return any(c.raddr == own for c in process.net_connections("tcp"))


def browser_answers(browser):
    try:
        return browser.state()
    except (ConnectionError, http.client.HTTPException):
        return None


def test_a_port_in_use_is_a_warning_and_the_node_detects(graph, parameters, images):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        graph.start_detector({**parameters, "web_port": port})
        PlayedCamera(graph).detect(images[0])
        status = wait_for(
            lambda: (s := graph.status("detector")).level == DiagnosticStatus.WARN and s,
            "a warning",
        )
        assert f"cannot listen on web_port {port} of web_host '127.0.0.1'" in status.summary
        graph.wait_for_log("cannot listen on web_port")
        assert len(graph.logged("cannot listen on web_port")) == 1
    node = Services(graph)
    refused = node.set("web_port", free_port())
    assert "can be set only while the node is unconfigured" in refused.reason
    assert node.change("deactivate")
    assert node.change("cleanup")
    other_port = free_port()
    assert node.set("web_port", other_port).successful
    assert node.change("configure")
    assert Browser(other_port).state()["node"]["name"] == graph.name("detector")


@pytest.mark.parametrize(
    "host", ["192.0.2.1", "no.such.host.invalid", "a" * 70, "a..b", "\x1b", " ", "999.1.1.1"]
)
def test_a_host_that_is_not_this_machine_s_is_a_warning(graph, parameters, images, host):
    graph.start_detector({**parameters, "web_port": free_port(), "web_host": host})
    PlayedCamera(graph).detect(images[0])
    status = graph.status("detector")
    assert status.level == DiagnosticStatus.WARN
    assert "cannot listen on web_port" in status.summary
    assert status.summary.isprintable()


def test_whatever_else_the_page_fails_with_is_a_warning(graph, parameters, images, monkeypatch):
    def broken(*arguments):
        raise RuntimeError("no page")

    monkeypatch.setattr(server, "Application", broken)
    graph.start_detector({**parameters, "web_port": free_port()})
    PlayedCamera(graph).detect(images[0])
    status = graph.status("detector")
    assert status.level == DiagnosticStatus.WARN
    assert "no web page: RuntimeError: no page" in status.summary


def test_the_page_says_why_the_node_is_not_configured(page):
    browser = page(weights="no/such/file.safetensors")
    node = wait_for(lambda: (n := browser.state()["node"])["level"] == "error" and n, "an error")
    assert "no/such/file.safetensors" in node["message"]


WITHOUT_AIOHTTP = """
import sys
sys.modules["aiohttp"] = None
from ssd_ros.ros.commands import detector
sys.exit(detector())
"""


def test_without_aiohttp_the_node_says_what_to_install(graph, weights, images):
    options = ["--ros-args", "-r", f"__ns:={graph.namespace}", "-p", f"weights:={weights}"]
    options += ["-p", f"web_port:={free_port()}"]
    graph.start_command([sys.executable, "-c", WITHOUT_AIOHTTP, *options], cwd=ROOT)
    PlayedCamera(graph).detect(images[0])
    summary = graph.status("detector").summary
    assert "web_port needs aiohttp; install python3-aiohttp" in summary


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_node_with_open_viewers(graph, weights, images, number):
    port = free_port()
    parameters = {"weights": weights, "device": "cpu", "web_port": port}
    process = graph.start_process("ssd_ros.ros.detector_node", parameters)
    camera = PlayedCamera(graph)
    camera.stream(images[2], rate=60)
    browser = Browser(port)
    wait_for(lambda: camera.detections, "the node to work")
    silent = [browser.open_stream(camera.topic) for _ in range(3)]
    viewer = Viewer(browser, camera.topic)
    viewer.image()
    process.send(number)
    assert process.exit_code() == 0, process.log
    assert "Traceback" not in process.log
    assert "still busy" not in process.log
    for connection in (*silent, viewer):
        connection.close()


def test_the_server_ends_with_its_threads(graph, page, images):
    browser = page()
    camera = PlayedCamera(graph)
    camera.stream(images[0])
    viewer = Viewer(browser, camera.topic)
    viewer.image()
    assert {t.name for t in threading.enumerate()} >= {"web", "web-encoder_0"}
    graph.close()
    assert not [t for t in threading.enumerate() if t.name.startswith("web")]
    viewer.close()


def test_parameters_are_changed_while_weights_load_or_the_request_is_given_up(
    graph, page, monkeypatch
):
    """Never later, when nobody waits for it any more."""
    monkeypatch.setattr(application, "CHANGE_TIMEOUT", 0.3)
    release = threading.Event()
    original = DetectorNode._prepare
    monkeypatch.setattr(
        DetectorNode,
        "_prepare",
        lambda self, *given: release.wait(PATIENCE) and original(self, *given),
    )
    browser, node = page(), Services(graph)
    loading = node.begin_set("max_detections", 5)
    time.sleep(0.2)
    assert browser.change(score_threshold=0.25)[0] == 504
    release.set()
    wait_for(loading.done, "the other change")
    graph.next_diagnostics(2)
    assert node.get("score_threshold") == 0.5
