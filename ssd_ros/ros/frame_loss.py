# SPDX-License-Identifier: Apache-2.0
"""Images that never came, told by the stamps of those that did. No ROS."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import numpy as np

WINDOW = 10.0  # seconds of stamps that are judged together
ENOUGH = 20  # stamps before anything is said
NOTICEABLE = 0.1  # share of lost images that is worth a word
RARE = 0.05  # share of gaps with a loss below which they are hiccups
IRREGULAR = 0.2  # mean distance from a whole number of periods; of gaps at random it is 0.25
PAUSE = 15  # periods: a longer gap is a camera that waited


@dataclass(frozen=True)
class FrameLoss:
    """Attributes:
    period: seconds between two images of the camera.
    share: lost images among all that the camera sent, 0 to 1.
    """

    period: float
    share: float

    @property
    def noticeable(self) -> bool:
        return self.share >= NOTICEABLE


class FrameLossEstimator:
    """The stamps of a camera's latest images.

    A camera takes images at even times. Where a gap between two stamps is two, three, … periods
    long, one, two, … images in between were lost on the way. The period is the mean of the
    shortest gaps: the median would be wrong once half of the images are lost. Of images that
    come at any time nothing is said.
    """

    def __init__(self) -> None:
        self._stamps: deque[int] = deque(maxlen=1000)  # nanoseconds

    def note(self, nanoseconds: int) -> None:
        """Takes the stamp of an image that arrived."""
        if self._stamps and not 0 < nanoseconds - self._stamps[-1] < WINDOW * 1e9:
            self._stamps.clear()  # another camera, a bag that starts again, a clock that was set
        self._stamps.append(nanoseconds)
        while self._stamps[-1] - self._stamps[0] > WINDOW * 1e9:
            self._stamps.popleft()

    def losses(self) -> FrameLoss | None:
        """What the last seconds tell; None while there are too few images."""
        if len(self._stamps) < ENOUGH:
            return None
        gaps = np.diff(np.array(self._stamps))
        shortest = np.percentile(gaps, 10)
        period = float(gaps[gaps < 1.5 * shortest].mean())
        periods = np.rint(gaps / period)
        judged = periods <= PAUSE
        gaps, periods = gaps[judged], periods[judged]
        lost = int((periods - 1).clip(min=0).sum())
        irregular = np.abs(gaps / period - periods).mean() > IRREGULAR
        if irregular or (periods > 1).mean() < RARE:
            lost = 0
        return FrameLoss(period * 1e-9, lost / (lost + len(self._stamps)))
