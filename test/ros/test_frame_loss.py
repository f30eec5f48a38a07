# SPDX-License-Identifier: Apache-2.0
"""Lost images, by the publisher's count, whatever the stamps of the others look like."""

import itertools
from collections.abc import Iterator

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="needs ROS 2 (pip_ros/install.py brings it)")

from rclpy.duration import Duration
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import QoSProfile
from sensor_msgs.msg import Image as ImageMsg
from waiting import wait_for

from ssd_ros.ros.camera import Camera
from ssd_ros.ros.frame_loss import Arrival, FrameLossEstimator
from ssd_ros.ros.image_subscription import HAS_MESSAGE_INFO

CAMERA, OTHER = frozenset(("camera",)), frozenset(("other",))
COUNT = 120  # published images of each pattern
chance = np.random.default_rng(0)


# --- patterns over a real topic ---------------------------------------------------------------


def at(*rates_and_counts: tuple[float, int]) -> np.ndarray:
    """Stamps in seconds of a camera that changes its rate."""
    gaps = [1 / rate for rate, count in rates_and_counts for _ in range(count)]
    return np.cumsum(gaps)


STEADY = at((30, COUNT))
EXPOSURE = 1 / 30 + np.abs(np.sin(np.arange(COUNT) / 12)) / 30
PAIRS = np.sort(np.concatenate((np.arange(60) / 10, np.arange(60) / 10 + 0.004)))
QUANTISED = np.floor(STEADY * 100) / 100
NOTHING = frozenset[int]()
EACH_THIRD = frozenset(range(2, COUNT - 1, 3))
RANDOM = frozenset(np.flatnonzero(chance.random(COUNT - 1) < 0.5).tolist())

# What stamps look like, which of the images are lost, and the share that is claimed.
PATTERNS: dict[str, tuple[np.ndarray, frozenset[int], float]] = {
    "a steady camera": (STEADY, NOTHING, 0),
    "10 to 5 Hz": (at((10, 60), (5, 60)), NOTHING, 0),
    "30 to 15 Hz by auto exposure, and back": (at((30, 40), (15, 40), (30, 40)), NOTHING, 0),
    "a period that follows the exposure": (np.cumsum(EXPOSURE), NOTHING, 0),
    "throttled: each third is not published": (STEADY[np.arange(COUNT) % 3 < 2], NOTHING, 0),
    "a driver that drops frames at random": (STEADY[chance.random(COUNT) < 0.6], NOTHING, 0),
    "triggered at random": (np.cumsum(chance.exponential(0.05, COUNT)), NOTHING, 0),
    "bursts with pauses": (np.arange(COUNT) // 8 * 0.5 + np.arange(COUNT) % 8 * 0.01, NOTHING, 0),
    "paused for five seconds": (STEADY + 5 * (np.arange(COUNT) > 60), NOTHING, 0),
    "a bag in a loop": (STEADY % 1.0, NOTHING, 0),
    "a clock that is turned back": (STEADY + 1000 * (np.arange(COUNT) < 60), NOTHING, 0),
    "stamps that never change": (np.full(COUNT, 7.0), NOTHING, 0),
    "left and right image on one topic": (PAIRS, NOTHING, 0),
    "a simulated clock of 100 Hz": (QUANTISED, NOTHING, 0),
    "one interruption": (STEADY, frozenset(range(40, 70)), 0),
    "each third is lost": (STEADY, EACH_THIRD, 0.33),
    "half is lost at random": (STEADY, RANDOM, 0.5),
    "half is lost of 10 to 5 Hz": (at((10, 60), (5, 60)), RANDOM, 0.5),
    "half is lost of stamps that never change": (np.full(COUNT, 7.0), RANDOM, 0.5),
    "half is lost of random triggers": (np.cumsum(chance.exponential(1, COUNT)), RANDOM, 0.5),
}


class PlayedPattern:
    """Publishes images to a camera that loses what the test says.

    The subscription keeps one message: of those that arrive while its node is not spun, only the
    last is received.
    """

    def __init__(self, graph) -> None:
        self.node = Node("receiver", namespace=graph.namespace)
        self.executor = SingleThreadedExecutor()
        self.executor.add_node(self.node)
        self.camera = Camera(self.node, graph.topics(), False, False, None, lambda: None)
        self.camera.subscribe()
        self.publisher = self.new_publisher(graph)

    def new_publisher(self, graph):
        qos = QoSProfile(depth=COUNT)
        publisher = graph.node.create_publisher(ImageMsg, graph.name("image_raw"), qos)
        wait_for(publisher.get_subscription_count, "the subscription")
        wait_for(lambda: len(self.camera.endpoints().publishers) == 1, "the publisher")
        self.camera.snapshot()  # as the first diagnostics do: the publishers are known from now on
        return publisher

    def play(self, stamps: np.ndarray, lost: frozenset[int] = NOTHING) -> None:
        for number, stamp in enumerate(stamps.tolist()):
            message = ImageMsg()
            message.header.stamp.sec = int(stamp)
            message.header.stamp.nanosec = round(stamp % 1 * 1e9) % 10**9
            self.publisher.publish(message)
            if number in lost:
                continue
            assert self.publisher.wait_for_all_acked(Duration(seconds=60))
            received = self.camera.snapshot().counts.received
            wait_for(lambda n=received: self.spin_once() > n, "the image")

    def spin_once(self) -> int:
        self.executor.spin_once(timeout_sec=0.1)
        return self.camera.snapshot().counts.received

    @property
    def claimed(self) -> float:
        loss = self.camera.snapshot().loss
        assert loss is not None
        return loss.share if loss.noticeable else 0.0

    def close(self) -> None:
        self.camera.close()
        self.executor.shutdown()
        self.node.destroy_node()


@pytest.fixture
def played(graph, monkeypatch) -> Iterator[PlayedPattern]:
    # However busy the machine is: here nothing is replaced in a queue.
    monkeypatch.setattr("ssd_ros.ros.image_subscription.PROMPT", 10**15)
    pattern = PlayedPattern(graph)
    yield pattern
    pattern.close()


@pytest.mark.skipif(not HAS_MESSAGE_INFO, reason="this rclpy does not pass sequence numbers")
@pytest.mark.parametrize("name", PATTERNS)
def test_loss_is_claimed_where_images_are_lost_whatever_the_stamps(played, name):
    stamps, lost, share = PATTERNS[name]
    played.play(stamps, lost)
    assert played.claimed == pytest.approx(share, abs=0.08)
    assert played.camera.snapshot().counts.received == len(stamps) - len(lost)


def test_pauses_of_the_node_are_no_loss(played):
    for _ in range(4):
        played.play(STEADY[:25])
        assert played.claimed == 0
        played.camera.unsubscribe()
        wait_for(lambda: played.publisher.get_subscription_count() == 0, "the pause")
        for _ in range(25):
            played.publisher.publish(ImageMsg())
        played.camera.subscribe()
        wait_for(played.publisher.get_subscription_count, "the subscription")


def test_a_restarted_driver_is_no_loss(graph, played):
    played.play(STEADY[:60], EACH_THIRD)
    assert played.claimed
    graph.node.destroy_publisher(played.publisher)
    wait_for(lambda: not played.camera.endpoints().publishers, "its end")
    played.publisher = played.new_publisher(graph)
    played.play(STEADY[:30])
    assert played.claimed == 0


# --- the estimate alone -----------------------------------------------------------------------


def estimator_of(numbers, publishers=CAMERA):
    estimator = FrameLossEstimator()
    estimator.estimate(publishers)
    for i, number in enumerate(numbers):
        estimator.note_received(i * 0.01, Arrival(number, prompt=True))
    return estimator


def test_images_that_a_slow_node_replaced_in_its_queue_are_not_taken_for_lost():
    estimator = FrameLossEstimator()
    estimator.estimate(CAMERA)
    for i in range(30):  # every second one is missing
        estimator.note_received(i * 0.1, Arrival(2 * i, prompt=False))
    assert estimator.estimate(CAMERA).share == 0
    for i in range(30, 60):  # and now they are lost on the way
        estimator.note_received(i * 0.1, Arrival(2 * i, prompt=True))
    assert estimator.estimate(CAMERA).noticeable


def test_too_few_images_tell_nothing():
    assert estimator_of(range(19)).estimate(CAMERA) is None
    assert estimator_of(range(20)).estimate(CAMERA).share == 0
    assert estimator_of([]).estimate(CAMERA) is None


def test_other_publishers_start_anew():
    estimator = estimator_of(range(0, 100, 2))
    assert estimator.estimate(CAMERA).noticeable
    assert estimator.estimate(OTHER) is None


def test_two_publishers_number_independently():
    numbers = list(itertools.chain.from_iterable(zip(range(50), range(900, 950), strict=True)))
    assert estimator_of(numbers, CAMERA | OTHER).estimate(CAMERA | OTHER).share == 0
    assert not estimator_of(numbers).estimate(CAMERA).noticeable  # the second is not known yet


@pytest.mark.parametrize(("publishers", "number"), [(CAMERA | OTHER, 7), (CAMERA, None)])
def test_without_numbers_the_middleware_s_report_counts(publishers, number):
    estimator = estimator_of([number] * 30, publishers)
    assert estimator.estimate(publishers).share == 0
    for i in range(5):
        estimator.note_reported(i * 0.01, 2)
    assert estimator.estimate(publishers).share == pytest.approx(0.25)
    assert estimator.estimate(publishers).noticeable


def test_old_losses_are_forgotten():
    estimator = estimator_of(range(0, 100, 2))
    estimator.note_reported(0.5, 10)
    for i in range(30):
        estimator.note_received(11 + i * 0.01, Arrival(100 + i, prompt=True))
    assert estimator.estimate(CAMERA).share == 0
