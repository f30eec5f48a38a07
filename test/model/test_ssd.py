# SPDX-License-Identifier: Apache-2.0
"""The network: its shape, its variants, and equality with torchvision's ssd300_vgg16."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.detection import ssd300_vgg16
from torchvision.models.detection.image_list import ImageList

from ssd_ros.detections import Thresholds
from ssd_ros.model.config import PAPER_VOC, RESNET50, TORCHVISION
from ssd_ros.model.default_boxes import default_boxes
from ssd_ros.model.layers import tensor_shapes
from ssd_ros.model.postprocess import postprocess
from ssd_ros.model.ssd import SSD, L2Norm
from ssd_ros.weights import reader


def smooth_image(seed: int) -> Tensor:
    """Colours that change slowly, with some noise: uint8 (1, 300, 300, 3)."""
    generator = torch.Generator().manual_seed(seed)
    colours = F.interpolate(torch.rand(1, 3, 12, 12, generator=generator), 300, mode="bicubic")
    noise = torch.rand(1, 3, 300, 300, generator=generator)
    image = 0.8 * colours.clamp(0, 1) + 0.2 * noise
    return (255 * image).to(torch.uint8).permute(0, 2, 3, 1).contiguous()


@pytest.mark.parametrize(
    ("config", "cells", "count"),
    [
        (PAPER_VOC, (38, 19, 10, 5, 3, 1), 8732),
        (TORCHVISION, (38, 19, 10, 5, 3, 1), 8732),
        (RESNET50, (38, 19, 10, 5, 3, 2), 8744),
    ],
    ids=["paper", "torchvision", "resnet50"],
)
def test_every_default_box_gets_logits_and_offsets(config, cells, count):
    model = SSD(num_classes=3, width=0.125, config=config).eval()
    with torch.inference_mode():
        maps = model.features(torch.rand(2, 3, 300, 300))
        logits, offsets = model(torch.rand(2, 3, 300, 300))
    assert [tuple(m.shape[-2:]) for m in maps] == [(s, s) for s in cells]
    assert logits.shape == (2, count, 4)
    assert offsets.shape == (2, count, 4)
    assert model.defaults.shape == (count, 4)


def test_width_scales_the_channels_and_one_is_vgg16():
    def parameters(width: float) -> int:
        with torch.device("meta"):
            return sum(p.numel() for p in SSD(20, width).parameters())

    assert parameters(1.0) == 26_285_486  # torchvision's ssd300_vgg16 with 21 outputs
    assert parameters(0.25) < parameters(1.0) / 10


@pytest.mark.parametrize("config", [PAPER_VOC, RESNET50], ids=lambda config: config.backbone)
@pytest.mark.parametrize("width", [0.0625, 0.3, 1.0])
def test_the_table_of_steps_names_the_state_dict_s_tensors(config, width):
    config = config.with_width(width)
    assert config.width == pytest.approx(width, rel=0.05)
    with torch.device("meta"):
        state = SSD(3, config=config).state_dict()
    assert tensor_shapes(config, 3) == {key: tuple(t.shape) for key, t in state.items()}


@pytest.mark.parametrize(
    "channels",
    [
        RESNET50.channels[:-1],
        (*RESNET50.channels[:-1], (256, 256)),
        ((64,), (64, 64, 256, 64, 64, 128, 64, 64, 256), *RESNET50.channels[2:]),
    ],
)
def test_channels_that_make_no_resnet50_are_refused(channels):
    with pytest.raises(
        ValueError, match=r"channels must be (of stages|equal where 'conv2.2' adds)"
    ):
        SSD(2, config=replace(RESNET50, channels=channels))


def test_channels_can_be_chosen_one_by_one():
    channels = (*PAPER_VOC.with_width(0.125).channels[:-1], (24, 40))
    model = SSD(2, config=replace(PAPER_VOC, channels=channels)).eval()
    assert model.get_submodule("conv11.2").weight.shape == (40, 24, 3, 3)
    with torch.inference_mode():
        assert model(torch.rand(1, 3, 300, 300))[0].shape == (1, 8732, 3)


def test_another_input_size_makes_other_maps():
    cells = (32, 16, 8, 4, 2)
    maps = [replace(m, cells=n) for m, n in zip(PAPER_VOC.feature_maps, cells, strict=False)]
    channels = PAPER_VOC.with_width(0.125).channels[:-1]
    config = replace(PAPER_VOC, feature_maps=tuple(maps), input_size=256, channels=channels)
    model = SSD(2, config=config).eval()
    with torch.inference_mode():
        images = torch.zeros(1, 256, 256, 3, dtype=torch.uint8)
        assert model(model.normalise(images))[0].shape == (1, config.box_count, 3)
        sides = tuple(m.shape[-1] for m in model.features(model.normalise(images)))
    assert sides == cells


@pytest.mark.parametrize(
    ("field", "value"),
    [("input_size", 512), ("channels", PAPER_VOC.channels[:-1]), ("channels", ((64,),) * 11)],
)
def test_a_configuration_that_does_not_fit_the_backbone_is_refused(field, value):
    with pytest.raises(ValueError, match=r"cells|channels must be of stages"):
        SSD(2, config=replace(PAPER_VOC, **{field: value}))


@pytest.mark.parametrize(
    ("arguments", "named"), [({"num_classes": 0}, "num_classes"), ({"width": 0.0}, "width")]
)
def test_a_network_that_cannot_be_is_refused_by_name(arguments, named):
    with pytest.raises(ValueError, match=named):
        SSD(**{"num_classes": 2, **arguments})


@pytest.mark.parametrize("config", [PAPER_VOC, RESNET50], ids=lambda config: config.backbone)
def test_gradients_reach_every_parameter(config):
    model = SSD(num_classes=2, width=0.125, config=config)
    logits, offsets = model(torch.rand(1, 3, 300, 300))
    (logits.square().mean() + offsets.square().mean()).backward()
    silent = [k for k, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert silent == []


def test_l2_normalisation_stays_in_the_range_of_fp16():
    norm = L2Norm(512, 20.0).half()
    lengths = norm(torch.full((1, 512, 2, 2), 3e4).half()).float().norm(dim=1)
    torch.testing.assert_close(lengths, torch.full((1, 2, 2), 20.0), rtol=0.01, atol=0)


@pytest.fixture(scope="module", params=[21, 91])
def theirs(request):
    """torchvision's network, made once, which takes seconds; it keeps its heads' `outputs`."""
    model = ssd300_vgg16(
        weights=None, weights_backbone=None, num_classes=request.param, score_thresh=0.01,
        nms_thresh=0.45, topk_candidates=400, detections_per_img=400,
    ).eval()  # fmt: skip
    model.head.register_forward_hook(lambda _, __, outputs: setattr(model, "outputs", outputs))
    return model


def randomise(model: nn.Module, seed: int) -> None:
    """Weights as torchvision's constructor draws them: Kaiming's for VGG16, else Xavier's."""
    torch.manual_seed(seed)
    for name, layer in model.named_modules():
        if isinstance(layer, nn.Conv2d):
            area = layer.kernel_size[0] ** 2
            fan_in, fan_out = layer.in_channels * area, layer.out_channels * area
            vgg16 = name.startswith("backbone.features")
            bound = (6 / fan_out if vgg16 else 6 / (fan_in + fan_out)) ** 0.5
            nn.init.uniform_(layer.weight, -bound, bound)


@pytest.mark.parametrize(
    "seed", [0, *(pytest.param(n, marks=pytest.mark.slow) for n in range(1, 5))]
)
def test_outputs_and_detections_equal_torchvision(theirs, seed, tmp_path):
    randomise(theirs, seed)
    file = tmp_path / "theirs.pth"
    torch.save(theirs.state_dict(), file)
    ours = reader.read(file).model()  # refuses a tensor too many or too few
    image = smooth_image(seed)
    as_torchvision = [image[0].permute(2, 0, 1) / 255]

    with torch.inference_mode():
        images: ImageList = theirs.transform(as_torchvision)[0]
        expected = theirs(as_torchvision)[0]
        heads = theirs.outputs
        # In torchvision's memory layout, where sums are equal to the last bit. In others the last
        # digits differ, and of a random network's many near ties another one may win.
        network_input = ours.normalise(image).contiguous()
        assert torch.equal(network_input, images.tensors)
        logits, offsets = ours(network_input)
        channels_last = ours(ours.normalise(image))
        best = postprocess(logits, offsets, ours.defaults, Thresholds(0.01, 0.45, 200, 400))

    probabilities = heads["cls_logits"].softmax(-1)
    for our_logits, our_offsets in ((logits, offsets), channels_last):
        torch.testing.assert_close(our_logits.softmax(-1), probabilities, rtol=0, atol=1e-4)
        torch.testing.assert_close(our_offsets, heads["bbox_regression"], rtol=0, atol=1e-4)

    # torchvision also returns boxes without area, of objects wholly outside the image.
    sides = expected["boxes"][:, 2:] - expected["boxes"][:, :2]
    seen = (sides > 0).all(dim=1)
    assert_same_detections(best, {key: value[seen][:200] for key, value in expected.items()})


def assert_same_detections(rows: Tensor, expected: dict[str, Tensor]) -> None:
    """Equal as sets: each has its one partner. Boxes within 0.01 px, scores within 1e-5."""
    assert len(rows) == len(expected["scores"]) > 0
    for label in expected["labels"].unique():
        ours, theirs = rows[rows[:, 1] + 1 == label], expected["labels"] == label
        assert len(ours) == theirs.sum()
        boxes = torch.cdist(300 * ours[:, 3:], expected["boxes"][theirs], p=torch.inf)
        scores = (ours[:, 2:3] - expected["scores"][theirs]).abs()
        partners = (boxes < 0.01) & (scores < 1e-5)
        assert partners.any(0).all()
        assert partners.any(1).all()


def test_default_boxes_equal_torchvision(theirs):
    generator = theirs.anchor_generator
    images = ImageList(torch.zeros(1, 3, 300, 300), [(300, 300)])
    maps = [torch.zeros(1, 1, side, side) for side in (38, 19, 10, 5, 3, 1)]
    expected = generator(images, maps)[0]
    ours = torch.from_numpy(default_boxes(TORCHVISION)) * 300
    corners = torch.cat((ours[:, :2] - ours[:, 2:] / 2, ours[:, :2] + ours[:, 2:] / 2), dim=1)
    torch.testing.assert_close(corners, expected, rtol=0, atol=1e-4)
