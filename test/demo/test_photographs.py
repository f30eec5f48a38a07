# SPDX-License-Identifier: Apache-2.0
"""The demo's objects: cut out whole, and found by the demo's weights."""

import cv2
import numpy as np
import pytest
import torch
from torchvision.ops import box_iou

pytest.importorskip("skimage", reason="needs requirements-training.txt")

from demo import photographs
from ssd_ros.detector import Detector
from ssd_ros.image import Image
from ssd_ros.io import image_files


def test_the_demo_s_cutouts_are_whole_objects():
    cutouts = dict(photographs.cutouts())
    assert set(cutouts) == {"cat", "cup", "motorbike", "person", "rocket"}
    for outline in photographs.OUTLINES:
        alpha = cutouts[outline.name][..., 3] > 127
        drawn = cv2.contourArea(outline.polygon)
        assert 0.85 < alpha.sum() / drawn < 1.15, outline.name
        sides = np.ptp(outline.polygon, axis=0)
        assert np.abs(np.array(alpha.shape[::-1]) - sides).max() < 12, outline.name
    assert all(min(part.shape[:2]) > 30 for part in photographs.backgrounds())


def test_the_demo_s_weights_find_each_object_in_the_photograph_that_it_was_cut_out_of():
    detector = Detector("demo")
    for outline in photographs.OUTLINES:
        photograph = image_files.read(photographs.folder() / outline.photograph)
        detections = detector([Image(photograph)])[0]
        same = detections.labels == detector.classes.index(outline.name)
        box = np.concatenate((outline.polygon.min(axis=0), outline.polygon.max(axis=0)))
        overlaps = box_iou(
            torch.from_numpy(detections.boxes[same]), torch.from_numpy(box[None].astype(np.float32))
        )
        assert (overlaps > 0.5).any(), outline.name
