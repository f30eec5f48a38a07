# SPDX-License-Identifier: Apache-2.0
"""Weights by name: where they are, what they are, and what is said where they cannot be had."""

import hashlib
from pathlib import Path

import pytest
import torch
from file_server import serve
from made_weights import torchvision_state_dict, write_random_weights
from torchvision.models.detection import SSD300_VGG16_Weights

from ssd_ros.model import class_names
from ssd_ros.weights import names
from ssd_ros.weights.__main__ import main
from ssd_ros.weights.names import NAMED, NamedWeights, missing, resolve
from ssd_ros.weights.reader import read
from ssd_ros.weights.weights import WeightsError


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch) -> Path:
    """The folder of downloaded weights, empty."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    return tmp_path / "hub" / "checkpoints"


@pytest.fixture
def served(tmp_path, monkeypatch):
    """`coco` is a small file of a local server."""
    data = write_random_weights(tmp_path / "served.safetensors", 1, ("cup", "cat")).read_bytes()
    with serve(data) as (server, url):
        sha256 = hashlib.sha256(data).hexdigest()[:8]
        monkeypatch.setitem(NAMED, "coco", NamedWeights("some", "w.safetensors", url, sha256))
        yield server


def test_coco_is_the_file_that_torchvision_downloads(monkeypatch, tmp_path):
    url = SSD300_VGG16_Weights.COCO_V1.url
    assert NAMED["coco"].url == url
    name = url.rpartition("/")[2]
    assert torch.hub.HASH_REGEX.search(name)[1] == NAMED["coco"].sha256
    for variable, value in (("TORCH_HOME", str(tmp_path)), ("XDG_CACHE_HOME", "~/elsewhere")):
        monkeypatch.setenv(variable, value)
        assert NAMED["coco"].path == Path(torch.hub.get_dir(), "checkpoints", name)
        monkeypatch.delenv(variable)
    assert NAMED["coco"].path == Path(torch.hub.get_dir(), "checkpoints", name)


def test_coco_is_read_where_torchvision_has_left_it(cache):
    cache.mkdir(parents=True)
    torch.save(torchvision_state_dict(91), NAMED["coco"].path)
    assert read("coco").classes == tuple(class_names.COCO)


def test_a_name_is_downloaded_once(served, cache, capsys):
    assert missing("coco")
    for _ in range(2):
        assert read("coco").classes == ("cup", "cat")
    assert not missing("coco")
    assert served.requests == [None]
    assert resolve("coco") == cache / "w.safetensors"
    told = capsys.readouterr().err
    assert f"downloading {NAMED['coco'].url} to {cache}/w.safetensors\n" in told
    size = f"{resolve('coco').stat().st_size / 1e6:.0f}"
    assert told.splitlines()[-1] == f"downloading: {size} of {size} MB"


def test_without_a_network_the_message_says_what_to_do(cache, monkeypatch, capsys):
    url = "http://127.0.0.1:9/weights.pth"
    monkeypatch.setitem(NAMED, "coco", NamedWeights("some", "weights.pth", url, "12345678"))
    monkeypatch.setattr("ssd_ros.weights.download._PAUSE", 0.0)
    with pytest.raises(WeightsError) as error:
        resolve("coco")
    for part in (url, "Connection refused", f"{cache}/weights.pth", "'demo'"):
        assert part in str(error.value)
    assert main(["info", "coco"]) == 1
    assert "error: weights 'coco': downloading " in capsys.readouterr().err


def test_what_has_no_name_is_a_path(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert resolve("~/coco") == tmp_path / "coco"
    assert not missing(str(tmp_path / "nowhere"))
    assert resolve("demo") == Path(names.__file__).with_name("demo.safetensors")


def test_a_missing_file_is_named_with_its_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(WeightsError, match=f"weights file '{tmp_path}/none.safetensors': cannot"):
        read("none.safetensors")


def test_the_list_says_what_is_where(served, cache, capsys):
    assert main(["list"]) == 0
    assert f"not downloaded yet: {NAMED['coco'].url} -> {cache}/w.safetensors" in (
        before := capsys.readouterr().out
    )
    for named in NAMED.values():
        assert named.text in before
        assert str(named.path) in before
    resolve("coco")
    capsys.readouterr()
    assert main(["list"]) == 0
    assert "not downloaded yet" not in capsys.readouterr().out
