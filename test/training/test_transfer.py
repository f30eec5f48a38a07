# SPDX-License-Identifier: Apache-2.0
"""Training starts from any family's checkpoint; heads stay where classes have the same names."""

from pathlib import Path

import pytest
import torch
from made_families import FAMILIES

from ssd_ros.model.class_names import VOC
from ssd_ros.model.config import PAPER_VOC
from ssd_ros.model.ssd import SSD
from training.trainer import class_heads, pretrained

NAME = "mmdetection's SSD300"  # the background is elsewhere, and mean and clipping are others
FAMILY = FAMILIES[NAME]


@pytest.fixture(scope="module")
def voc_file(tmp_path_factory) -> Path:
    """A checkpoint of a family with VOC's classes, as its trainer wraps it."""
    file = tmp_path_factory.mktemp("transfer") / "theirs.pth"
    torch.save({"state_dict": FAMILY.state_dict(21), "meta": {"epoch": 24}}, file)
    return file


@pytest.fixture(scope="module")
def theirs(voc_file) -> dict[str, torch.Tensor]:
    return torch.load(voc_file, weights_only=True)["state_dict"]


@pytest.fixture(scope="module")
def source(voc_file) -> pretrained.Pretrained:
    return pretrained.read(str(voc_file))


def scores_of(head: torch.Tensor, count: int, index: int) -> torch.Tensor:
    """The rows of one class in a head's kernel or bias."""
    return head.view(-1, count, *head.shape[1:])[:, index]


def test_heads_of_classes_with_the_same_names_are_kept_in_any_order(source, theirs):
    classes = ["dog", "rocket", "aeroplane"]
    model = SSD(3, config=source.config)
    pretrained.zero_init_heads(model)
    assert pretrained.apply(model, source, classes) == 71
    for k in range(6):
        for part in ("weight", "bias"):
            head = model.get_parameter(f"scores.{k}.{part}")
            their_head = theirs[f"{FAMILY.conf.format(k)}.{part}"]
            for ours, name in enumerate(classes, start=1):
                row = scores_of(head, 4, ours)
                if name == "rocket":
                    assert not row.any()
                else:
                    assert torch.equal(row, scores_of(their_head, 21, VOC.index(name)))
            assert torch.equal(scores_of(head, 4, 0), scores_of(their_head, 21, 20))
    assert torch.equal(model.get_parameter("conv6.0.weight"), theirs["backbone.features.31.weight"])


def test_heads_without_a_shared_class_start_anew(source):
    model = SSD(2, config=source.config)
    pretrained.zero_init_heads(model)
    assert pretrained.apply(model, source, ["rocket", "cup"]) == 71 - 12
    assert not any(head.weight.any() for head in model.scores)
    assert model.offsets[0].weight.any()


def test_a_checkpoint_without_class_names_gives_all_but_the_class_heads(tmp_path):
    file = tmp_path / "theirs.pth"
    torch.save(FAMILY.state_dict(4), file)
    source = pretrained.read(str(file))
    assert source.classes == ("unnamed 1", "unnamed 2", "unnamed 3")
    assert pretrained.apply(SSD(3, config=source.config), source, ["a", "b", "c"]) == 71 - 12


@pytest.mark.parametrize(
    ("names", "places"),
    [
        ("conv4", (17, 19, 21)),
        ("conv4_3", (21,)),
        ("fc6", (31,)),
        (" conv1.1, fc7 ", (0, 33)),
    ],
)
def test_layers_are_chosen_by_the_paper_s_names(names, places, source, theirs):
    model = SSD(20, config=source.config)
    before = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    pretrained.apply(model, source, VOC, pretrained.layers(model, names))
    kernels = {k: x for k, x in model.state_dict().items() if k.endswith(".weight")}
    taken = [x for k, x in kernels.items() if not torch.equal(x, before[k])]
    expected = [theirs[f"backbone.features.{place}.weight"] for place in places]
    assert len(taken) == len(expected)
    assert all(map(torch.equal, taken, expected))


def test_an_unknown_layer_is_told_with_those_that_exist():
    with pytest.raises(ValueError, match=r"unknown layer 'conv4_9'; layers: conv1, .* as conv4_3"):
        pretrained.layers(SSD(1, 0.125), "conv1,conv4_9")


def test_one_convolution_can_be_frozen():
    model = SSD(1, 0.125)
    frozen = pretrained.freeze(model, pretrained.layers(model, "conv1_1,fc6"))
    assert len(frozen) == 2
    still = {name for name, value in model.named_parameters() if not value.requires_grad}
    assert still == {"conv1.1.weight", "conv1.1.bias", "conv6.0.weight", "conv6.0.bias"}


def test_heads_for_another_number_of_boxes_are_an_error():
    ours, theirs = torch.zeros(4 * 3), torch.zeros(6 * 2)
    with pytest.raises(ValueError, match="for 1 classes do not fit"):
        class_heads.copy_shared(ours, ["a", "b"], theirs, ["a"])


def test_what_happens_to_the_heads_is_told():
    assert class_heads.describe(["a", "b"], ["b", "a", "c"]) == "class heads kept for a, b"
    assert class_heads.describe(["a", "b"], ["b"]) == "class heads kept for b; new for a"
    told = class_heads.describe(["a", "b"], ["c"])
    assert told == "new class heads: none of these classes is in the file: a, b"


def test_the_configuration_of_a_family_stays(source):
    assert source.config.mean != PAPER_VOC.mean
    assert source.classes == tuple(VOC)
