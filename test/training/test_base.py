# SPDX-License-Identifier: Apache-2.0
"""Training with ResNet-50 as the base network: from random, ImageNet's and ml-rover's weights."""

import made_ml_rover
import numpy as np
import pytest
import torch
from made_dataset import make_set
from torchvision.models import resnet18, resnet50, resnet101

from ssd_ros.backends.backend import BackendOptions
from ssd_ros.backends.create import create
from ssd_ros.model.config import PAPER_VOC, RESNET50
from ssd_ros.model.resnet50 import BASE
from ssd_ros.model.ssd import SSD
from ssd_ros.model.steps import Network, walk
from ssd_ros.weights import reader
from training import evaluate, report, train
from training.trainer import batch_norm, box_scales, pretrained, run_files

pytestmark = [pytest.mark.training, pytest.mark.usefixtures("one_thread")]

QUICK = "--width 0.0625 --iterations 3 --batch 4 --workers 0 --precision fp32 --device cpu".split()


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return make_set(tmp_path_factory.mktemp("data") / "set", images=8)


@pytest.fixture(scope="module")
def imagenet():
    """A ResNet-50 of torchvision with random weights and statistics."""
    torch.manual_seed(0)
    model = resnet50(weights=None)
    randomise_statistics(model)
    return model.eval()


@pytest.fixture(scope="module")
def imagenet_file(imagenet, tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "resnet50.pth"
    torch.save(imagenet.state_dict(), path)
    return path


def randomise_statistics(model):
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.2)
            module.running_var.uniform_(0.5, 2)
            torch.nn.init.uniform_(module.weight, 0.3, 0.8)
            torch.nn.init.normal_(module.bias, 0, 0.2)


def trained(root, out, *more):
    return train.main(["--data", str(root), "--out", str(out), *QUICK, *more])


def test_a_training_from_random_weights_ends_with_a_file_that_every_engine_runs(root, tmp_path):
    out = tmp_path / "run"
    assert trained(root, out, "--base", "resnet50") == 0
    state = run_files.read_checkpoint(out)["model"]
    assert "conv5.1.down.norm.running_var" in state
    assert "conv6.1.norm.running_var" not in state
    weights = reader.read(out / run_files.LAST)
    assert weights.config.backbone == "resnet50"
    assert weights.config.width == 0.0625
    assert not any(".norm." in key for key in weights.tensors)
    image = np.random.default_rng(0).integers(0, 256, (1, 300, 300, 3), dtype=np.uint8)
    ours, theirs = (
        create(weights, BackendOptions(name, "cpu", "fp32")).infer(image)
        for name in ("openvino", "pytorch")
    )
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(a, np.asarray(b), rtol=0, atol=1e-4)
    # The file computes what the trained network does in evaluation.
    model = SSD(2, config=weights.config)
    batch_norm.add(model, BASE)
    model.load_state_dict(state)
    with torch.inference_mode():
        for a, b in zip(ours, model.eval()(model.normalise(torch.from_numpy(image))), strict=True):
            np.testing.assert_allclose(a, b.numpy(), rtol=0, atol=1e-3)

    assert trained(root, out, "--resume") == 0
    assert evaluate.main([str(out / run_files.LAST), "--data", str(root)]) == 0
    assert report.main([str(out)]) == 0


def test_batch_norm_normalises_the_extra_layers_too(root, tmp_path):
    assert trained(root, tmp_path / "run", "--base", "resnet50", "--batch-norm") == 0
    state = run_files.read_checkpoint(tmp_path / "run")["model"]
    assert {"conv2.1.3.norm.weight", "conv6.1.norm.weight"} <= state.keys()


def test_imagenet_s_weights_compute_what_torchvision_does(imagenet, imagenet_file):
    source = pretrained.read(str(imagenet_file))
    assert source.config.mean == pretrained.IMAGENET_MEAN
    assert source.classes is None
    model = SSD(2, config=RESNET50)
    batch_norm.add(model, BASE)
    assert pretrained.apply(model, source, ["a", "b"]) == 53 * 6
    steps = [step.name for step in model.network.steps]
    base = Network(model.network.steps[: steps.index("norm3")], ("conv3.4",))
    x = torch.randn(1, 3, 64, 64)
    with torch.inference_mode():
        (ours,) = walk(base, x, model.eval().compute)
        y = imagenet.maxpool(imagenet.relu(imagenet.bn1(imagenet.conv1(x))))
        torch.testing.assert_close(ours, imagenet.layer2(imagenet.layer1(y)))
    for stage in ("conv4", "conv5"):
        layer = getattr(imagenet, f"layer{int(stage[-1]) - 1}")[0]
        for ours, theirs in (("1.down", layer.downsample[0]), ("1.2", layer.conv2)):
            assert torch.equal(model.get_submodule(f"{stage}.{ours}").weight, theirs.weight)


def test_imagenet_s_weights_start_a_training(root, imagenet_file, tmp_path, capsys):
    options = ["--init", str(imagenet_file), "--freeze", "conv1,conv2", "--val-sets", "none"]
    assert trained(root, tmp_path / "run", *options) == 1
    assert "is --width 0.0625 the width of that file?" in capsys.readouterr().err
    options += ["--width", "1", "--iterations", "1", "--batch", "1"]
    assert trained(root, tmp_path / "run", *options) == 0
    state = run_files.read_checkpoint(tmp_path / "run")["model"]
    start = torch.load(imagenet_file, weights_only=True)
    for name, kept in (("conv2.3.1", "layer1.2"), ("conv1.1", "")):
        mean = start[f"{kept}.bn1.running_mean".removeprefix(".")]
        assert torch.equal(state[f"{name}.norm.running_mean"], mean)
    moved = start["layer2.0.bn1.running_mean"]
    assert not torch.equal(state["conv3.1.1.norm.running_mean"], moved)


def test_ml_rover_s_weights_keep_their_batch_normalisation_in_training(tmp_path):
    torch.save(made_ml_rover.state_dict(), tmp_path / "w.pth")
    source = pretrained.read(str(tmp_path / "w.pth"))
    assert not source.folded
    model = SSD(20, config=source.config)
    batch_norm.add(model, BASE)
    pretrained.apply(model, source, source.classes)
    folded = reader.read(tmp_path / "w.pth").model()
    x = torch.randn(1, 3, 300, 300)
    with torch.inference_mode():
        for ours, theirs in zip(model.eval()(x), folded(x), strict=True):
            torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-3)


def test_a_folded_file_is_trained_as_it_is(root, tmp_path):
    first, second = tmp_path / "first", tmp_path / "second"
    assert trained(root, first, "--base", "resnet50", "--val-sets", "none") == 0
    init = ["--init", str(first / run_files.LAST), "--val-sets", "none"]
    assert trained(root, second, *init) == 0
    assert not any(".norm." in key for key in run_files.read_checkpoint(second)["model"])
    assert reader.read(second / run_files.LAST).config.backbone == "resnet50"
    assert trained(root, second, "--resume") == 0


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (resnet18, "no tensor 'layer1.0.conv3.weight' of ResNet-50"),
        (resnet101, "has tensor 'layer3.6.conv1.weight', which ResNet-50 does not have"),
    ],
)
def test_other_resnets_are_refused(make, message, tmp_path):
    with torch.random.fork_rng():
        torch.save(make(weights=None).state_dict(), tmp_path / "other.pth")
    with pytest.raises(ValueError, match=f"other.pth': .*{message}"):
        pretrained.read(str(tmp_path / "other.pth"))


def test_another_base_network_than_that_of_the_pretrained_weights_is_refused(
    root, imagenet_file, tmp_path, capsys
):
    init = ["--init", str(imagenet_file), "--base", "vgg16"]
    assert trained(root, tmp_path / "run", *init) == 1
    assert f"--base vgg16 differs from --init {imagenet_file}" in capsys.readouterr().err


def test_the_scales_of_the_boxes_are_chosen_on_the_maps_of_the_network():
    for config in (PAPER_VOC, RESNET50):
        other = box_scales.with_scales(config, "coco", [])
        for a, b in zip(other.feature_maps, config.feature_maps, strict=True):
            assert (a.cells, a.step) == (b.cells, b.step)
            assert a.box_sizes != b.box_sizes
        assert box_scales.with_scales(other, "voc", []) == config
