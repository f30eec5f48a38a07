# SPDX-License-Identifier: Apache-2.0
"""The default boxes that suit a dataset's objects are found."""

from pathlib import Path

import numpy as np
import pytest

from ssd_ros.model.config import COCO_SCALES, PAPER_VOC, TORCHVISION, VOC_SCALES, ssd300_maps
from training.data.samples import Sample
from training.data.voc import ImageRecord
from training.trainer.box_scales import coverage, with_scales


def squares(side, count=20, size=(300, 300)):
    """Images of one square each, somewhere."""
    rng = np.random.default_rng(0)
    record = ImageRecord("", Path(), Path())
    for corner in rng.uniform(0, 300 - side, (count, 2)):
        box = np.concatenate((corner, corner + side))[None].astype(np.float32)
        yield Sample(record, np.zeros(1, int), box, np.zeros(1, bool), np.ones(1, int), size)


@pytest.mark.parametrize(
    ("side", "scales"), [(20, COCO_SCALES), (30, VOC_SCALES), (60, VOC_SCALES)]
)
def test_the_scales_that_fit_the_objects_are_taken(side, scales):
    samples = list(squares(side))
    config = with_scales(PAPER_VOC, "auto", samples)
    assert config.feature_maps == ssd300_maps(scales)
    assert config.mean == PAPER_VOC.mean
    assert coverage(config, samples) > 0.5


def test_scales_can_be_chosen():
    assert with_scales(PAPER_VOC, "coco", []).feature_maps == TORCHVISION.feature_maps
    assert with_scales(TORCHVISION, "voc", []).feature_maps == PAPER_VOC.feature_maps


def test_a_square_of_a_default_box_s_size_is_covered_but_for_its_place():
    assert 0.6 < coverage(PAPER_VOC, list(squares(30))) < 1
    assert coverage(PAPER_VOC, []) == 0
