# SPDX-License-Identifier: Apache-2.0
"""Estimates frame loss from header stamps. No ROS."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import numpy as np

WINDOW = 10.0  # seconds of stamps that an estimate uses
ENOUGH = 20  # stamps that an estimate needs
NOTICEABLE = 0.1  # share of lost images that is reported
RARE = 0.05  # share of gaps with a loss below which they count as jitter of the camera
IRREGULAR = 0.2  # mean distance from a whole number of periods; of random gaps it is 0.25
PAUSE = 15  # periods: a longer gap is a pause of the camera, not a loss


@dataclass(frozen=True)
class FrameLoss:
    """An estimate.

    Attributes:
        period: seconds between two images of the camera.
        share: lost images among all that the camera sent, 0 to 1.
    """

    period: float
    share: float

    @property
    def noticeable(self) -> bool:
        return self.share >= NOTICEABLE


class FrameLossEstimator:
    """Estimates the loss from the stamps of a camera's latest images.

    A camera takes images at regular intervals. If a gap between two stamps is two, three, …
    periods long, one, two, … images in between were lost. The period is the mean of the shortest
    gaps: the median would be wrong once half of the images are lost. For irregular images no loss
    is estimated.
    """

    def __init__(self) -> None:
        self._stamps: deque[int] = deque(maxlen=1000)  # nanoseconds

    def note(self, nanoseconds: int) -> None:
        """Adds the stamp of a received image."""
        if self._stamps and not 0 < nanoseconds - self._stamps[-1] < WINDOW * 1e9:
            self._stamps.clear()  # another camera, a restarted bag, an adjusted clock
        self._stamps.append(nanoseconds)
        while self._stamps[-1] - self._stamps[0] > WINDOW * 1e9:
            self._stamps.popleft()

    def losses(self) -> FrameLoss | None:
        """The estimate for the last seconds; None while there are too few images."""
        if len(self._stamps) < ENOUGH:
            return None
        gaps = np.diff(np.array(self._stamps))
        shortest = np.percentile(gaps, 10)
        period = float(gaps[gaps < 1.5 * shortest].mean())
        periods = np.rint(gaps / period)
        regular = periods <= PAUSE
        gaps, periods = gaps[regular], periods[regular]
        lost = int((periods - 1).clip(min=0).sum())
        irregular = np.abs(gaps / period - periods).mean() > IRREGULAR
        if irregular or (periods > 1).mean() < RARE:
            lost = 0
        return FrameLoss(period * 1e-9, lost / (lost + len(self._stamps)))
