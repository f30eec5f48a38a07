# SPDX-License-Identifier: Apache-2.0
"""Configurations and their default boxes, against the paper's numbers."""

from dataclasses import replace

import numpy as np
import pytest

from ssd_ros.model.config import PAPER_VOC, TORCHVISION, VOC_SCALES, FeatureMap, ssd300_maps
from ssd_ros.model.default_boxes import default_boxes


def test_the_papers_boxes_have_the_papers_sides_in_pixels():
    boxes = default_boxes(PAPER_VOC) * 300
    first_of_map = [0, 5776, 7942, 8542, 8692, 8728]
    squares = boxes[first_of_map][:, 2:]
    sides = np.array([30.0, 60, 111, 162, 213, 264])
    np.testing.assert_allclose(squares, np.stack((sides, sides), axis=1), rtol=1e-6)
    larger = boxes[1, 2]
    assert larger == pytest.approx((30 * 60) ** 0.5, abs=1e-3)
    wide, tall = boxes[2, 2:], boxes[3, 2:]
    assert wide.tolist() == pytest.approx([30 * 2**0.5, 30 / 2**0.5], abs=1e-3)
    assert tall.tolist() == pytest.approx([30 / 2**0.5, 30 * 2**0.5], abs=1e-3)


def test_cells_run_along_the_rows():
    centres = default_boxes(PAPER_VOC)[:, :2] * 300
    assert centres[0].tolist() == pytest.approx([4, 4])
    assert centres[4].tolist() == pytest.approx([12, 4])  # next cell: one step to the right
    assert centres[4 * 38].tolist() == pytest.approx([4, 12])  # next row: one step down
    assert centres[-1].tolist() == pytest.approx([150, 150])


def test_only_the_clipped_variant_cuts_sides_to_the_image():
    assert default_boxes(PAPER_VOC)[:, 2:].max() > 1.2
    assert default_boxes(TORCHVISION)[:, 2:].max() == 1.0


def test_clipping_cuts_sides_or_whole_boxes_to_the_image():
    outside = FeatureMap(2, 400, ((0.5, 1.5),))  # centres at 2/3 and 2
    boxes = {
        clip: default_boxes(replace(PAPER_VOC, feature_maps=(outside,), clip=clip))[3]
        for clip in ("none", "size", "centre_and_size")
    }
    assert boxes["none"].tolist() == pytest.approx([2, 2, 0.5, 1.5])
    assert boxes["size"].tolist() == pytest.approx([2, 2, 0.5, 1])
    assert boxes["centre_and_size"].tolist() == pytest.approx([1, 1, 0.5, 1])


def test_there_are_as_many_boxes_as_the_configuration_says():
    assert default_boxes(PAPER_VOC).shape == (PAPER_VOC.box_count, 4) == (8732, 4)
    assert default_boxes(PAPER_VOC).dtype == np.float32


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("scales", (0.1, 0.2)),
        ("scales", (0.1, 0.2, 0.37, 0.54, 0.71, 0.88, float("nan"))),
        ("aspect_ratios", ((2.0,),) * 5),
        ("aspect_ratios", ((0.0,),) * 6),
        ("steps", (8.0, 16.0, 32.0, 64.0, 100.0, -1.0)),
    ],
)
def test_feature_maps_that_make_no_sense_are_refused_by_argument(field, value):
    with pytest.raises(ValueError, match=field):
        ssd300_maps(**{"scales": VOC_SCALES, field: value})


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("std", (0.0, 1.0, 1.0)),
        ("mean", (0.5,)),
        ("mean", (0.5, 0.5, float("inf"))),
        ("feature_maps", ()),
        ("clip", "everything"),
        ("backbone", "vgg19"),
        ("input_size", 0),
        ("input_size", 10**9),
        ("variances", (0.1,)),
        ("variances", (0.1, 0.0)),
        ("channels", ()),
        ("channels", ((64, 0),)),
    ],
)
def test_a_configuration_that_makes_no_sense_is_refused_by_field(field, value):
    with pytest.raises(ValueError, match=field):
        replace(PAPER_VOC, **{field: value})


@pytest.mark.parametrize(
    ("field", "value"),
    [("cells", 0), ("step", float("nan")), ("box_sizes", ()), ("box_sizes", ((0.1, -0.1),))],
)
def test_a_feature_map_that_makes_no_sense_is_refused_by_field(field, value):
    with pytest.raises(ValueError, match=field):
        FeatureMap(**{"cells": 3, "step": 100, "box_sizes": ((0.1, 0.1),), field: value})


def test_boxes_can_be_cut_to_the_image():
    config = replace(PAPER_VOC, clip="corners")
    centres, sizes = np.split(default_boxes(config).astype(np.float64), 2, axis=1)
    whole_centres, whole_sizes = np.split(default_boxes(PAPER_VOC).astype(np.float64), 2, axis=1)
    for side in (-1, 1):
        whole = whole_centres + side * whole_sizes / 2
        np.testing.assert_allclose(centres + side * sizes / 2, whole.clip(0, 1), atol=1e-6)
    assert (whole_sizes - sizes).max() > 0.4
