# SPDX-License-Identifier: Apache-2.0
"""When the outputs of a precision can be used."""

import pytest
import torch

from ssd_ros.model.precision import all_finite, difference

EXACT = (torch.tensor([[[4.0, 0.0], [0.0, 4.0]]]), torch.full((1, 2, 4), 10.0))


def test_outputs_with_the_rounding_of_half_precision_are_no_difference():
    assert difference(EXACT, EXACT) == ""
    assert difference(EXACT, (EXACT[0].bfloat16() + 0.01, EXACT[1].bfloat16() * 1.01)) == ""


def test_a_difference_is_named_with_its_size_and_limit():
    opposite = (EXACT[0].flip(-1), EXACT[1])
    assert difference(EXACT, opposite) == "a score changes by 0.96, the limit is 0.5"
    everywhere = (0.5 * EXACT[0], EXACT[1])
    assert difference(EXACT, everywhere).startswith("the mean score changes by 0.1")
    moved = (EXACT[0], EXACT[1] + 2)
    assert "by 0.20, the limit is 0.1" in difference(EXACT, moved)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("place", [0, 1])
def test_one_value_that_is_not_finite_is_found(dtype, value, place):
    outputs = [output.to(dtype, copy=True) for output in EXACT]
    assert all_finite(*outputs)
    outputs[place].view(-1)[-1] = value
    assert not all_finite(*outputs)
    assert difference(EXACT, tuple(outputs)) == "its outputs are not finite"


def test_large_finite_values_are_finite():
    largest = torch.full((1, 8732, 4), torch.finfo(torch.float16).max, dtype=torch.float16)
    assert all_finite(largest, largest)  # their sum is not
