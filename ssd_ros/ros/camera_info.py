# SPDX-License-Identifier: Apache-2.0
"""A camera's calibration as sensor_msgs/CameraInfo: of a file, or of a field of view."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from sensor_msgs.msg import CameraInfo

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

# Matrices of the file: name, field of the message, number of values.
_MATRICES = (
    ("camera_matrix", "k", 9),
    ("rectification_matrix", "r", 9),
    ("projection_matrix", "p", 12),
)
_IDENTITY = [1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0]


def from_file(url: str) -> CameraInfo:
    """The calibration of a YAML file as camera_calibration writes it.

    Args:
        url: a path, or file:// and a path.

    Raises:
        ValueError: the file is not such a calibration; the message names it and what is wrong.
        OSError: it cannot be read.
    """
    path = Path(url.removeprefix("file://")).expanduser()
    try:
        content = yaml.safe_load(path.read_text())
        if not isinstance(content, dict):
            raise ValueError("expected a mapping with image_width, camera_matrix and others")
        return _from_mapping(content)
    except (ValueError, yaml.YAMLError) as error:  # UnicodeDecodeError is a ValueError
        raise ValueError(f"'{path}' is not a camera calibration: {error}") from None


def from_field_of_view(width: int, height: int, degrees: float) -> CameraInfo:
    """The calibration of a camera without distortion, with square pixels and a centred axis.

    Args:
        width, height: size of the image in pixels.
        degrees: horizontal field of view, above 0 and below 180.
    """
    focal = width / 2 / math.tan(math.radians(degrees) / 2)
    x, y = width / 2, height / 2
    return CameraInfo(
        width=width,
        height=height,
        distortion_model="plumb_bob",
        d=[0.0] * 5,
        k=[focal, 0.0, x, 0.0, focal, y, 0.0, 0.0, 1.0],
        r=_IDENTITY,
        p=[focal, 0.0, x, 0.0, 0.0, focal, y, 0.0, 0.0, 0.0, 1.0, 0.0],
    )


def _from_mapping(content: Mapping[str, Any]) -> CameraInfo:
    info = CameraInfo(
        width=_size(content, "image_width"),
        height=_size(content, "image_height"),
        distortion_model=str(content.get("distortion_model", "plumb_bob")),
        r=_IDENTITY,
    )
    for name, field, count in _MATRICES:
        if name in content or name == "camera_matrix":
            setattr(info, field, _values(content, name, count))
    if "projection_matrix" not in content:
        k = info.k
        info.p = [*k[0:3], 0.0, *k[3:6], 0.0, *k[6:9], 0.0]
    if "distortion_coefficients" in content:
        info.d = _values(content, "distortion_coefficients")
    return info


def _size(content: Mapping[str, Any], name: str) -> int:
    value = content.get(name)
    if not isinstance(value, int) or not 0 < value < 2**16:
        raise ValueError(f"{name} must be a number of pixels, got {value!r}")
    return value


def _values(content: Mapping[str, Any], name: str, count: int | None = None) -> Sequence[float]:
    matrix = content.get(name)
    data = matrix.get("data") if isinstance(matrix, dict) else None
    try:
        values = [float(value) for value in data or ()]
    except (TypeError, ValueError):
        values = []
    if count not in (None, len(values)) or not all(map(math.isfinite, values)):
        raise ValueError(f"{name} must have {count or ''} numbers in its list `data`, got {data!r}")
    return values
