# SPDX-License-Identifier: Apache-2.0
"""Encoding and decoding of boxes are inverse."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ssd_ros.model.box_coding import decode, encode
from ssd_ros.model.config import PAPER_VOC
from ssd_ros.model.default_boxes import default_boxes

DEFAULTS = torch.from_numpy(default_boxes(PAPER_VOC))

sides = st.floats(0.01, 1.0)


@given(
    centres=st.lists(st.tuples(*[st.floats(0, 1)] * 2, sides, sides), min_size=1, max_size=20),
    index=st.integers(0, 8700),
)
@settings(max_examples=60, deadline=None)
def test_decode_is_the_inverse_of_encode(centres, index):
    boxes = torch.tensor(centres)
    boxes = torch.cat((boxes[:, :2] - boxes[:, 2:] / 2, boxes[:, :2] + boxes[:, 2:] / 2), dim=1)
    defaults = DEFAULTS[index : index + len(boxes)]
    boxes = boxes[: len(defaults)]
    torch.testing.assert_close(decode(encode(boxes, defaults), defaults), boxes, rtol=0, atol=2e-5)
    other = (0.3, 0.7)
    decoded = decode(encode(boxes, defaults, other), defaults, other)
    torch.testing.assert_close(decoded, boxes, rtol=0, atol=2e-5)


def test_any_finite_offset_decodes_to_a_finite_box():
    extremes = torch.tensor([[1e4, -1e4, 1e4, 1e4], [0.0, 0, -1e4, 3e38]])
    assert decode(extremes, DEFAULTS[:2]).isfinite().all()


def test_offsets_are_divided_by_the_variances_of_centre_and_size():
    box = torch.tensor([[0.4, 0.4, 0.8, 0.8]])
    default = torch.tensor([[0.5, 0.5, 0.2, 0.2]])
    offsets = encode(box, default, (1.0, 1.0))[0]
    log2 = torch.log(torch.tensor(2.0))
    torch.testing.assert_close(offsets, torch.stack((*torch.tensor([0.5, 0.5]), log2, log2)))
    scaled = encode(box, default, (0.1, 0.2))[0]
    torch.testing.assert_close(scaled, offsets / torch.tensor([0.1, 0.1, 0.2, 0.2]))
