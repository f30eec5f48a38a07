# SPDX-License-Identifier: Apache-2.0
"""From an image of any size to the network's input, with the SSD paper's augmentations.

Section 2.2 and 3.6 of arXiv 1512.02325: expansion, a crop that overlaps the objects, flip and
photometric distortion, from torchvision.transforms.v2. Three differences:
  - the colours are changed after the warp to the network's input size, so that the cost does not
    grow with the image;
  - the channels are not permuted (nor does the paper's own code);
  - the final warp is the one of `ssd_ros.detector.network_input` (OpenCV, bilinear, without
    antialiasing): a network trained on smoother images would see different ones on the robot.
"""

from __future__ import annotations

import math
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import v2

CHOICES = ("none", "light", "ssd")
MAX_CANVAS = 2**23  # pixels of an expanded image: 25 MB


class Warp(v2.Transform):
    """Resizes images and boxes to a square as the detector does on the robot.

    Args:
        side: of the square in pixels.
    """

    def __init__(self, side: int) -> None:
        super().__init__()
        self.side = side

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        size = (self.side, self.side)
        if isinstance(inpt, tv_tensors.Image):
            pixels = np.ascontiguousarray(inpt.permute(1, 2, 0).numpy())
            warped = torch.from_numpy(cv2.resize(pixels, size)).permute(2, 0, 1)
            return tv_tensors.Image(warped)
        if isinstance(inpt, tv_tensors.BoundingBoxes):
            return v2.functional.resize(inpt, list(size))
        return inpt


class _PhotometricDistort(v2.RandomPhotometricDistort):
    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        return {**super().make_params(flat_inputs), "channel_permutation": None}


class _ZoomOut(v2.RandomZoomOut):
    """Expansion of an image that is reduced first if the canvas would have over MAX_CANVAS pixels.

    A crop of the canvas has at least three tenths of its sides and so remains larger than the
    network's input.
    """

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        params = super().make_params(flat_inputs)
        height, width = v2.functional.get_size(flat_inputs[0])
        left, top, right, bottom = params["padding"]
        canvas = (width + left + right) * (height + top + bottom)
        reduction = math.ceil(math.sqrt(canvas / MAX_CANVAS))
        if reduction > 1:
            params["size"] = [max(1, height // reduction), max(1, width // reduction)]
            params["padding"] = [side // reduction for side in params["padding"]]
        return params

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        size = params.get("size")
        if size and isinstance(inpt, tv_tensors.Image):
            pixels = np.ascontiguousarray(inpt.permute(1, 2, 0).numpy())
            reduced = cv2.resize(pixels, size[::-1], interpolation=cv2.INTER_AREA)
            inpt = tv_tensors.Image(torch.from_numpy(reduced).permute(2, 0, 1))
        elif size and isinstance(inpt, tv_tensors.BoundingBoxes):
            inpt = v2.functional.resize(inpt, size)
        return super().transform(inpt, {"padding": params["padding"]})


class _IoUCrop(v2.RandomIoUCrop):
    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        # Without objects no crop can overlap one: torchvision would search for a long time. Of
        # a few pixels it would cut none.
        image, boxes = (
            next(x for x in flat_inputs if isinstance(x, kind))
            for kind in (tv_tensors.Image, tv_tensors.BoundingBoxes)
        )
        enough = min(image.shape[-2:]) * self.min_scale >= 1
        return super().make_params(flat_inputs) if len(boxes) and enough else {}


def _labels(inputs: tuple[Any, ...]) -> Tensor:
    labels: Tensor = inputs[-1]
    return labels


class Augment:
    """Turns an image and its boxes into the network's input, with random changes.

    The order of steps; those of `ssd` only are marked *, those of `light` and `ssd` +:
      1. * expansion: the image on a canvas of up to four times its sides;
      2. * a crop that overlaps the objects by a random minimum;
      3. the warp to the input size;
      4. + photometric distortion;
      5. + horizontal flip;
      6. boxes are clamped to the image, and those thinner than a pixel dropped.

    Args:
        kind: `none`, `light` (flip and colours) or `ssd` (the paper's).
        fill: RGB, 0 to 255, around an expanded image: the mean that the network subtracts.
        input_size: of the network: side of the square input in pixels.

    Raises:
        ValueError: unknown kind.
    """

    def __init__(self, kind: str, fill: tuple[float, ...], input_size: int) -> None:
        if kind not in CHOICES:
            raise ValueError(f"augment must be {', '.join(CHOICES)}, got '{kind}'")
        self._input_size = input_size
        fill_rgb = {tv_tensors.Image: [round(value) for value in fill], "others": 0}
        geometry: list[v2.Transform] = [
            _ZoomOut(fill=fill_rgb),
            _IoUCrop(),
        ]
        colours: list[v2.Transform] = [_PhotometricDistort(), v2.RandomHorizontalFlip()]
        self._steps = v2.Compose(
            (geometry if kind == "ssd" else [])
            + [Warp(input_size)]
            + (colours if kind != "none" else [])
            + [v2.ClampBoundingBoxes(), v2.SanitizeBoundingBoxes(labels_getter=_labels)]
        )

    def __call__(
        self, image: np.ndarray, boxes: np.ndarray, labels: np.ndarray
    ) -> tuple[Tensor, Tensor, Tensor]:
        """One augmented sample; all random numbers come from torch's global generator.

        Args:
            image: uint8 RGB (H, W, 3).
            boxes: float32 (N, 4), x1 y1 x2 y2 in pixels, as `clip_and_validate` returns them.
            labels: int64 (N,).

        Returns:
            uint8 RGB (S, S, 3) with S = input_size, float32 (M, 4) corners as fractions, int64
            (M,); M <= N.
        """
        tensor = tv_tensors.Image(torch.from_numpy(image).permute(2, 0, 1))
        corners = tv_tensors.BoundingBoxes(
            torch.from_numpy(boxes), format="XYXY", canvas_size=image.shape[:2]
        )
        tensor, corners, kept = self._steps(tensor, corners, torch.from_numpy(labels))
        pixels = tensor.as_subclass(Tensor).permute(1, 2, 0).contiguous()
        return pixels, corners.as_subclass(Tensor) / self._input_size, kept

    def boxes(
        self, boxes: np.ndarray, labels: np.ndarray, size: tuple[int, int]
    ) -> tuple[Tensor, Tensor]:
        """What becomes of boxes alone, of an image of this width and height; with `none` only."""
        canvas = (size[1], size[0])
        corners = tv_tensors.BoundingBoxes(
            torch.from_numpy(boxes), format="XYXY", canvas_size=canvas
        )
        corners, kept = self._steps(corners, torch.from_numpy(labels))
        return corners.as_subclass(Tensor) / self._input_size, kept
