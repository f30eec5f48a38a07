# SPDX-License-Identifier: Apache-2.0
"""Families of state dicts are recognised by names and shapes; near misses say what is wrong."""

import pytest

from ssd_ros.model.config import TORCHVISION
from ssd_ros.weights import native
from ssd_ros.weights.containers import Header, open_file
from ssd_ros.weights.layout import compare
from ssd_ros.weights.layouts import LAYOUTS, torchvision
from ssd_ros.weights.names import resolve


def torchvision_header() -> Header:
    """A header with the names and shapes of torchvision's network with 4 outputs."""
    from torch import device
    from torchvision.models.detection import ssd300_vgg16

    with device("meta"):
        state = ssd300_vgg16(weights=None, weights_backbone=None, num_classes=4).state_dict()
    shapes = {key: tuple(tensor.shape) for key, tensor in state.items()}
    return Header(shapes, dict.fromkeys(shapes, "float32"))


@pytest.fixture(scope="module")
def foreign() -> Header:
    return torchvision_header()


def test_the_native_format_comes_first():
    assert LAYOUTS[0] is native


def test_a_header_tells_names_shapes_and_types_of_the_tensors():
    header, load = open_file(resolve("demo"))
    arrays = load()
    assert header.shapes == {key: array.shape for key, array in arrays.items()}
    assert header.dtypes == {key: str(array.dtype) for key, array in arrays.items()}


def test_each_file_is_of_one_family(foreign):
    header, _ = open_file(resolve("demo"))
    assert native.inspect(header) is None
    assert torchvision.inspect(foreign) is None
    for layout, other in ((native, foreign), (torchvision, header)):
        mismatch = layout.inspect(other)
        assert mismatch is not None
        assert mismatch.family == layout.FAMILY
        assert not mismatch.near


def test_a_mismatch_lists_missing_extra_and_misshapen_tensors(foreign):
    shapes = dict(foreign.shapes)
    scale = shapes.pop("backbone.scale_weight")
    shapes["surprise"] = scale
    shapes["backbone.features.0.weight"] = (64, 1, 3, 3)
    mismatch = torchvision.inspect(Header(shapes, foreign.dtypes))
    assert mismatch.near
    assert mismatch.missing == ("backbone.scale_weight",)
    assert mismatch.extra == ("surprise",)
    assert mismatch.misshapen == (("backbone.features.0.weight", (64, 1, 3, 3), (64, 3, 3, 3)),)
    assert str(mismatch) == (
        "lacks tensor 'backbone.scale_weight'; "
        "holds tensor 'surprise', which the network does not have; "
        "tensor 'backbone.features.0.weight' has shape (64, 1, 3, 3), expected (64, 3, 3, 3) for "
        "3 classes"
    )


def test_a_bare_state_dict_of_ours_is_a_near_miss_of_the_native_format():
    header, _ = open_file(resolve("demo"))
    mismatch = native.inspect(Header(header.shapes, header.dtypes))
    assert mismatch.near
    assert "no metadata" in str(mismatch)


def test_equal_shapes_are_no_mismatch_and_long_lists_are_cut():
    shapes = {f"t{i}": (i,) for i in range(6)}
    assert compare("a family", shapes, shapes) is None
    assert "and 3 more" in str(compare("a family", {}, shapes))
    others = dict.fromkeys(shapes, (9, 9))
    assert "3 more tensors have other shapes" in str(compare("a family", others, shapes))


def test_the_number_of_classes_follows_from_the_first_head(foreign):
    assert foreign.shapes["head.classification_head.module_list.0.bias"] == (
        4 * TORCHVISION.boxes_per_cell[0],
    )
    with pytest.raises(ValueError, match="has 3 classes but no class names"):
        torchvision.convert({}, foreign, None)
    with pytest.raises(ValueError, match="has 3 classes besides the background, got 2 names"):
        torchvision.convert({}, foreign, ["a", "b"])
