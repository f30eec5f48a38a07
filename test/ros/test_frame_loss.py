# SPDX-License-Identifier: Apache-2.0
"""Lost images, told by the stamps of those that arrived."""

import numpy as np
import pytest

from ssd_ros.ros.frame_loss import FrameLossEstimator


def losses_of(seconds):
    stamps = FrameLossEstimator()
    for value in seconds:
        stamps.note(round(value * 1e9))
    return stamps.losses()


@pytest.mark.parametrize("share", [0.0, 0.05, 0.3, 0.5, 0.8])
@pytest.mark.parametrize("jitter", [0.0, 0.1])
def test_the_share_of_lost_images_is_found_whatever_the_jitter(share, jitter):
    rng = np.random.default_rng(0)
    taken = np.arange(300) / 30 + rng.uniform(-jitter, jitter, 300) / 30
    found = losses_of(taken[rng.random(300) >= share])
    assert found.share == pytest.approx(share, abs=0.08)
    assert found.noticeable == (share > 0.1)
    assert found.period == pytest.approx(1 / 30, rel=0.2)


def test_too_few_images_tell_nothing():
    assert losses_of(np.arange(19) / 10) is None
    assert losses_of([]) is None


def test_a_restart_or_another_clock_is_no_loss():
    before, after = np.arange(100) / 30, np.arange(100) / 30
    assert losses_of([*before, *(after + 1000)]).share == 0
    assert losses_of([*(before + 1000), *after]).share == 0
    assert losses_of([5.0] * 50) is None


def test_images_taken_at_any_time_are_no_losses():
    times = np.cumsum(np.random.default_rng(0).exponential(0.05, 300))
    assert not losses_of(times).noticeable
    times = np.cumsum(np.random.default_rng(0).uniform(0.01, 0.1, 300))
    assert not losses_of(times).noticeable


def test_bursts_with_pauses_are_no_losses():
    starts = np.arange(0, 8, 0.5)
    assert losses_of(np.sort((starts[:, None] + np.arange(8) * 0.01).ravel())).share == 0


def test_old_losses_are_forgotten():
    lossy, whole = np.arange(0, 100, 2) / 10, np.arange(100, 250) / 10
    assert losses_of(lossy).period == pytest.approx(0.2)  # every second one: nothing to see
    assert losses_of([*lossy, *whole]).share == 0
