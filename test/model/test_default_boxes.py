# SPDX-License-Identifier: Apache-2.0
"""Default boxes against the paper's numbers; encoding and decoding are inverse."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ssd_ros.model.config import PAPER_VOC, TORCHVISION
from ssd_ros.model.default_boxes import decode, default_boxes, encode


def test_the_papers_boxes_have_the_papers_sides_in_pixels():
    boxes = default_boxes(PAPER_VOC) * 300
    first_of_map = [0, 5776, 7942, 8542, 8692, 8728]
    squares = boxes[first_of_map][:, 2:]
    sides = torch.tensor([30.0, 60, 111, 162, 213, 264])
    torch.testing.assert_close(squares, sides[:, None].expand(6, 2))
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


sides = st.floats(0.01, 1.0)


@given(
    centres=st.lists(st.tuples(*[st.floats(0, 1)] * 2, sides, sides), min_size=1, max_size=20),
    index=st.integers(0, 8700),
)
@settings(max_examples=60, deadline=None)
def test_decode_is_the_inverse_of_encode(centres, index):
    boxes = torch.tensor(centres)
    boxes = torch.cat((boxes[:, :2] - boxes[:, 2:] / 2, boxes[:, :2] + boxes[:, 2:] / 2), dim=1)
    defaults = default_boxes(PAPER_VOC)[index : index + len(boxes)]
    boxes = boxes[: len(defaults)]
    torch.testing.assert_close(decode(encode(boxes, defaults), defaults), boxes, rtol=0, atol=2e-5)


def test_any_finite_offset_decodes_to_a_finite_box():
    extremes = torch.tensor([[1e4, -1e4, 1e4, 1e4], [0.0, 0, -1e4, 3e38]])
    assert decode(extremes, default_boxes(PAPER_VOC)[:2]).isfinite().all()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("scales", (0.1, 0.2)),
        ("scales", (0.1, 0.2, 0.37, 0.54, 0.71, 0.88, float("nan"))),
        ("aspect_ratios", ((2.0,),) * 5),
        ("steps", (8.0, 16.0, 32.0, 64.0, 100.0, -1.0)),
        ("std", (0.0, 1.0, 1.0)),
        ("mean", (0.5,)),
    ],
)
def test_a_configuration_that_makes_no_sense_is_refused_by_field(field, value):
    with pytest.raises(ValueError, match=field):
        replace(PAPER_VOC, **{field: value})
