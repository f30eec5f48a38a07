# SPDX-License-Identifier: Apache-2.0
"""The web page in a real browser; runs where playwright and Chromium are installed."""

import shutil

import pytest

pytest.importorskip("rclpy", reason="needs ROS 2 (pip_ros/install.py brings it)")
pytest.importorskip("aiohttp", reason="needs requirements-demo.txt")
pytest.importorskip("playwright", reason="needs playwright")

from played_camera import PlayedCamera, names_in, scores_in
from playwright.sync_api import sync_playwright
from test_web_page import free_port
from waiting import PATIENCE, wait_for

from ssd_ros.web import application

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")


@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")
def test_the_image_moves_and_slider_and_filter_change_what_is_published(graph, parameters, images):
    port = free_port()
    graph.start_detector({**parameters, "web_port": port})
    camera = PlayedCamera(graph)
    found = camera.detect(images[0])
    camera.stream(images[0], rate=10)
    errors = []
    with sync_playwright() as driver:
        browser = driver.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"]
        )
        page = browser.new_page()
        page.set_default_timeout(1e3 * PATIENCE)
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("console", lambda message: errors.append(message.text))
        page.goto(f"http://127.0.0.1:{port}/")
        page.get_by_text("detecting", exact=True).wait_for()
        size = "() => document.images[0] && document.images[0].naturalWidth"
        wait_for(lambda: page.evaluate(size) == images[0].shape[1], "the image")

        limit = (scores_in(found)[0] + scores_in(found)[-1]) / 2
        page.get_by_label("Score threshold").fill(f"{limit:.2f}")
        camera.detections.clear()
        wait_for(
            lambda: (
                camera.detections
                and min(scores_in(camera.detections[-1]), default=1) > round(limit, 2)
            ),
            "only detections above the threshold",
        )
        page.get_by_label("Score threshold").fill("0.5")
        name = names_in(found)[0]
        page.get_by_text("Classes:").click()
        page.get_by_label(name, exact=True).check()
        wait_for(
            lambda: set(names_in(camera.detections[-1])) == {name}, "only detections of one class"
        )
        browser.close()
    assert not errors


@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")
def test_a_stream_comes_again_after_it_ended_and_after_nobody_saw_the_page(
    graph, parameters, images, monkeypatch
):
    port = free_port()
    node = graph.start_detector({**parameters, "web_port": port})
    camera = PlayedCamera(graph)
    camera.detect(images[0])
    stream = node._web.view(camera.topic)
    with sync_playwright() as driver:
        browser = driver.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"]
        )
        page = browser.new_page()
        page.set_default_timeout(1e3 * PATIENCE)
        with monkeypatch.context() as full:
            full.setattr(application, "MAX_VIEWERS", 0)
            with page.expect_response(lambda answer: answer.status == 503):
                page.goto(f"http://127.0.0.1:{port}/")
        wait_for(lambda: stream.viewers == 1, "the page to ask again")
        with monkeypatch.context() as stalled:
            stalled.setattr(application, "STALLED", 0)  # whatever is sent takes too long
            camera.stream(images[0], rate=10)
            wait_for(lambda: stream.viewers == 0, "the stream to end")
        wait_for(lambda: stream.viewers == 1, "the page to ask again")
        for hidden, viewers in ((True, 0), (False, 1)):
            page.evaluate(
                "hidden => { Object.defineProperty(document, 'hidden', "
                "{ value: hidden, configurable: true }); "
                "document.dispatchEvent(new Event('visibilitychange')); }",
                hidden,
            )
            wait_for(lambda expected=viewers: stream.viewers == expected, f"{viewers} viewers")
        size = "() => document.images[0] && document.images[0].naturalWidth"
        wait_for(lambda: page.evaluate(size) == images[0].shape[1], "the image")
        browser.close()
