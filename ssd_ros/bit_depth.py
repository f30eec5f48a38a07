# SPDX-License-Identifier: Apache-2.0
"""Images of 16 bits or of floating point as the 8 bits that the network takes.

Thermal and industrial cameras send 10 to 14 bits in 16: of the full range they use a few percent,
and scaled by it they are almost black. Depth and temperature are floating point in any unit.
"""

from __future__ import annotations

import cv2
import numpy as np

from ssd_ros import png

# How to choose the range of values that becomes 0 to 255: by the image, or a fixed number of bits.
RANGES = ("percentiles", "10bit", "12bit", "14bit", "16bit")
PERCENTILES = "percentiles"
_OUTSIDE = 0.005  # share of the pixels that may be below, and above, the range
_SAMPLES = 2**18  # approximate maximum number of pixels in the histogram
_VALUES = 2**16


def to_8_bits(pixels: np.ndarray, value_range: str = PERCENTILES) -> np.ndarray:
    """Scales grey values, or those of colours, all channels by the same range.

    Args:
        pixels: uint16 (H, W) or (H, W, C), or float32 (H, W), in native byte order.
        value_range: one of RANGES, for integers; floating point has no number of bits, and is
            always scaled by `percentiles`. With `percentiles` all but half a percent of the pixels
            at either end keep their differences. Those of integers are never enlarged: an image of
            few different values is dark or plain, not noise. NaN becomes 0.

    Returns:
        uint8 of the same shape.
    """
    if pixels.dtype == np.float32:
        return _float_to_8_bits(pixels)
    if value_range == PERCENTILES:
        low, high = _percentiles(pixels)
    else:
        low, high = 0, 2 ** int(value_range.removesuffix("bit")) - 1
    table = (np.arange(_VALUES) - low) * (255 / max(high - low, 255))
    return np.take(table.clip(0, 255).round().astype(np.uint8), pixels)


def decode(
    data: np.ndarray, flags: int = cv2.IMREAD_COLOR, value_range: str = PERCENTILES
) -> np.ndarray | None:
    """cv2.imdecode to BGR uint8 (H, W, 3), where 16-bit grey images are scaled by `to_8_bits`.

    Colours are scaled by the fewest bits of 10, 12, 14 and 16 that hold the brightest value.

    Args:
        data: bytes of an image file, uint8 (N,).
        flags: with IMREAD_COLOR.

    Returns:
        None if the data are not an image.

    Raises:
        cv2.error: they are an image that OpenCV refuses.
        ImageError: they are a broken PNG.
    """
    data = png.without_extras(data)
    pixels = cv2.imdecode(data, flags | cv2.IMREAD_ANYDEPTH)
    if pixels is None or pixels.dtype == np.uint8:
        return pixels
    if pixels.dtype == np.uint16 and _is_grey(pixels):
        return cv2.cvtColor(to_8_bits(pixels[..., 0], value_range), cv2.COLOR_GRAY2BGR)
    if pixels.dtype == np.uint16 and pixels.max() < 2**14:
        bits = next(bits for bits in (10, 12, 14) if pixels.max() < 2**bits)
        return to_8_bits(pixels, f"{bits}bit")
    return cv2.imdecode(data, flags)  # colour of the full range, or floating point


def _is_grey(pixels: np.ndarray) -> bool:
    return all(np.array_equal(pixels[..., 0], pixels[..., channel]) for channel in (1, 2))


def _float_to_8_bits(pixels: np.ndarray) -> np.ndarray:
    samples = _samples(pixels)
    samples = samples[np.isfinite(samples)].astype(np.float64)  # differences can exceed float32
    if not samples.size:
        return np.zeros(pixels.shape, np.uint8)
    low, high = np.quantile(samples, (_OUTSIDE, 1 - _OUTSIDE))
    if low == high:
        return np.zeros(pixels.shape, np.uint8)
    scaled = pixels.astype(np.float64)
    scaled -= low
    scaled *= 255 / (high - low)
    return np.nan_to_num(scaled.clip(0, 255, out=scaled), copy=False).round().astype(np.uint8)


def _samples(pixels: np.ndarray) -> np.ndarray:
    """About _SAMPLES of the pixels, in a grid; one-dimensional."""
    every = max(1, int((pixels.size / _SAMPLES) ** 0.5))
    return pixels[::every, ::every].ravel()


def _percentiles(pixels: np.ndarray) -> tuple[int, int]:
    counts = np.bincount(_samples(pixels), minlength=_VALUES)
    below = counts.cumsum() / counts.sum()
    low, high = np.searchsorted(below, (_OUTSIDE, 1 - _OUTSIDE), side="right")
    return int(low), min(int(high), _VALUES - 1)
