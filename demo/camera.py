# SPDX-License-Identifier: Apache-2.0
"""Frames of a camera that pans and zooms over composed scenes, with ground truth.

python -m demo.camera OUT writes OUT/frames/*.jpg and OUT/truth.json. The scenes show
the objects of the demo's dataset, but none of its images: their random seeds differ.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from tqdm import tqdm

from demo import photographs
from ssd_ros import atomic
from ssd_ros.io import image_files
from training.compose import DIFFICULT_BELOW
from training.composition.compose import CutOut, Placed, compose

SCENE = (960, 720)
FRAME = (640, 480)
WIDEST, NARROWEST = 1.0, 0.7  # visible share of the scene
Window = tuple[float, float, float, float]  # x1 y1 x2 y2 in pixels of the scene


def path(steps: int, phase: float) -> Iterator[Window]:
    """The visible window of a scene at each step: a slow loop with a zoom in and out."""
    width, height = SCENE
    for step in range(steps):
        angle = 2 * math.pi * step / steps + phase
        share = WIDEST + (NARROWEST - WIDEST) * (0.5 - 0.5 * math.cos(angle))
        margin_x, margin_y = width * (1 - share), height * (1 - share)
        x, y = (
            margin_x * (0.5 + 0.5 * math.sin(angle)),
            margin_y * (0.5 + 0.5 * math.sin(2 * angle)),
        )
        yield x, y, x + share * width, y + share * height


def crop(scene: np.ndarray, window: Window) -> np.ndarray:
    """The frame of a window: BGR uint8 of the size FRAME."""
    scale = FRAME[0] / (window[2] - window[0])
    matrix = np.array([[scale, 0, -scale * window[0]], [0, scale, -scale * window[1]]])
    return cv2.warpAffine(scene, matrix, FRAME, flags=cv2.INTER_AREA)


def visible_objects(objects: Sequence[Placed], window: Window) -> list[dict[str, Any]]:
    """Objects in pixels of the frame, clipped to it; `difficult` if little is visible."""
    scale = FRAME[0] / (window[2] - window[0])
    visible = []
    for item in objects:
        whole = np.array(item.box, float).reshape(2, 2)
        cut = whole.clip(window[:2], window[2:])
        share = np.ptp(cut, axis=0).prod() / max(np.ptp(whole, axis=0).prod(), 1)
        if share > 0:
            visible.append(
                {
                    "class": item.name,
                    "box": ((cut - window[:2]) * scale).round(2).ravel().tolist(),
                    "difficult": bool(share * item.seen < 2 * DIFFICULT_BELOW),
                }
            )
    return visible


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m demo.camera", description=__doc__)
    parser.add_argument("out", type=Path, help="folder to write to")
    parser.add_argument(
        "--scenes", type=int, default=10, help="number of scenes (default: %(default)s)"
    )
    parser.add_argument(
        "--frames", type=int, default=10, help="frames of each scene (default: %(default)s)"
    )
    parser.add_argument("--seed", type=int, default=0, help="random seed (default: %(default)s)")
    options = parser.parse_args(arguments)
    cutouts = [CutOut(name, pixels) for name, pixels in photographs.cutouts()]
    backgrounds = photographs.backgrounds()
    ground_truth = []
    try:
        for number in tqdm(range(options.scenes), unit="scene", disable=None):
            rng = np.random.default_rng([options.seed, *b"camera", number])
            scene, objects = compose(rng, cutouts, backgrounds, SCENE)
            for step, window in enumerate(path(options.frames, rng.uniform(0, 2 * math.pi))):
                file = options.out / "frames" / f"{number:03}_{step:03}.jpg"
                image_files.write(file, crop(scene, window))
                ground_truth.append(
                    {"file": file.name, "objects": visible_objects(objects, window)}
                )
        atomic.write(options.out / "truth.json", json.dumps(ground_truth, indent=1).encode())
    except OSError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"wrote {len(ground_truth)} frames of {options.scenes} scenes to '{options.out}'")
    return 0


if __name__ == "__main__":
    sys.exit(main())
