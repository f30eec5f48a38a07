# SPDX-License-Identifier: Apache-2.0
"""Streams of images: the newest for each viewer, each encoded once, and none without a viewer."""

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from waiting import PATIENCE

from ssd_ros.web import streams
from ssd_ros.web.streams import Stream


class Frame:
    """A frame whose JPEG is its number; counts how often it was encoded."""

    def __init__(self, number, gate=None):
        self.number, self.encoded, self._gate = number, 0, gate

    def jpeg(self):
        if self._gate is not None:
            assert self._gate.wait(PATIENCE)
        self.encoded += 1
        return np.array([self.number], np.uint8)


class Broken(Frame):
    def jpeg(self):
        raise ValueError("too large")


@pytest.fixture(autouse=True)
def _unlimited(monkeypatch):
    monkeypatch.setattr(streams, "MAX_RATE", 1e6)


def run(test):
    """Runs a coroutine function with a stream and the texts that it reports."""
    reports = []

    async def with_stream():
        with ThreadPoolExecutor(1) as encoder:
            await test(Stream(asyncio.get_running_loop(), encoder, reports.append))

    asyncio.run(asyncio.wait_for(with_stream(), PATIENCE))
    return reports


def test_without_a_viewer_nothing_is_encoded_or_kept():
    async def test(stream):
        before, during = Frame(1), Frame(2)
        stream.offer(before)
        with stream.viewing():
            assert await stream.next(0, 0.01) == (0, b"")  # none of before
            stream.offer(during)
            assert await stream.next(0, PATIENCE) == (1, b"\2")
        assert stream.viewers == 0
        after = Frame(3)
        stream.offer(after)
        with stream.viewing():
            assert await stream.next(0, 0.01) == (0, b"")
        assert [frame.encoded for frame in (before, during, after)] == [0, 1, 0]

    run(test)


def test_each_image_is_encoded_once_for_all_viewers():
    async def test(stream):
        async def watch():
            with stream.viewing():
                waiting.release()
                seen, number = [], 0
                while len(seen) < len(frames):
                    number, jpeg = await stream.next(number, PATIENCE)
                    seen.append(jpeg[0])
                    waiting.release()
                return seen

        frames, waiting = [Frame(number) for number in range(5)], asyncio.Semaphore(0)
        viewers = [asyncio.create_task(watch()) for _ in range(20)]
        for frame in frames:
            for _ in viewers:
                await waiting.acquire()
            stream.offer(frame)
        assert await asyncio.gather(*viewers) == [[0, 1, 2, 3, 4]] * 20
        assert [frame.encoded for frame in frames] == [1] * 5

    run(test)


def test_a_slow_viewer_and_a_slow_encoder_get_the_newest_frame():
    async def test(stream):
        gate = threading.Event()
        with stream.viewing():
            stream.offer(Frame(1, gate))
            while stream._newest is not None:  # until it is being encoded
                await asyncio.sleep(0.001)
            for number in range(2, 100):
                stream.offer(Frame(number))
            gate.set()
            number, _ = await stream.next(0, PATIENCE)
            if number == 1:  # the first one, which was being encoded
                number, jpeg = await stream.next(number, PATIENCE)
            assert (number, jpeg) == (2, b"c")  # the 99th
            for count in range(3, 50):  # nobody asks for these
                stream.offer(Frame(count))
                while stream._number < count:
                    await asyncio.sleep(0)
            assert await stream.next(number, PATIENCE) == (49, b"1")

    run(test)


def test_a_frame_that_cannot_be_encoded_is_reported_and_the_next_is_shown():
    async def test(stream):
        with stream.viewing():
            stream.offer(Broken(1))
            while stream._newest is not None:
                await asyncio.sleep(0.001)
            stream.offer(Frame(2))
            assert await stream.next(0, PATIENCE) == (1, b"\2")

    assert run(test) == ["cannot encode an image for the web page: too large"]


def test_frames_offered_after_the_end_are_ignored():
    kept = []

    async def test(stream):
        kept.append(stream)

    run(test)
    kept[0].viewers = 1  # as of a viewer whose connection is being closed
    kept[0].offer(Frame(1))
    assert kept[0]._task is None


def test_the_rate_is_limited(monkeypatch):
    monkeypatch.setattr(streams, "MAX_RATE", 0.001)

    async def test(stream):
        with stream.viewing():
            stream.offer(Frame(1))
            number, _ = await stream.next(0, PATIENCE)
            later = Frame(2)
            stream.offer(later)
            assert await stream.next(number, 0.05) == (number, b"")
            assert later.encoded == 0

    run(test)
