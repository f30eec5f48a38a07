# SPDX-License-Identifier: Apache-2.0
"""The environment of all tests, a ROS domain of their own, and the fixtures that they share.

What needs rclpy or PyTorch is imported in the fixtures: other tests run without them.
"""

from __future__ import annotations  # Humble's pytest does not export all of these types

import itertools
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import colcon
import numpy as np
import pytest
from made_images import made_image

import ssd_ros  # noqa: F401 - before PyTorch is loaded, as in the package's own processes

if TYPE_CHECKING:
    from gate import Gate
    from graph import Graph

PROFILE = str(Path(__file__).parents[1] / "config" / "fastdds.xml")

# Read by rclpy and Fast DDS at their start, and by the processes that the tests start.
ENVIRONMENT = {
    "ROS_DOMAIN_ID": str(1 + os.getpid() % 100),
    "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST",
    "FASTRTPS_DEFAULT_PROFILES_FILE": PROFILE,
    "FASTDDS_DEFAULT_PROFILES_FILE": PROFILE,
    "https_proxy": "http://127.0.0.1:9",  # nobody listens: the default weights are not downloaded
    "CUDA_VISIBLE_DEVICES": "",  # what a CPU computes is the same each time; see `make test-cuda`
}
if os.environ.get("ROS_DISTRO") == "humble":  # later ones warn about this name
    ENVIRONMENT["ROS_LOCALHOST_ONLY"] = "1"
for name, value in ENVIRONMENT.items():
    os.environ.setdefault(name, value)
if "PYTEST_XDIST_WORKER" in os.environ:  # it has the domain of the process that started it
    os.environ["ROS_DOMAIN_ID"] = ENVIRONMENT["ROS_DOMAIN_ID"]
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # a shell does so to what it starts with &
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--endurance",
        action="store_true",
        help="also the long tests: twenty minutes",
    )

    parser.addoption("--kills", type=int, default=20, help="of a training, by --endurance")


collect_ignore: list[str] = []


def pytest_configure(config: pytest.Config) -> None:
    collect_ignore.extend(colcon.configure(config))


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    endurance = pytest.mark.skip(reason="takes minutes; pytest --endurance runs it")
    for item in items:
        if "rclpy_started" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.graph)
        if "endurance" in item.keywords and not config.getoption("--endurance"):
            item.add_marker(endurance)


@pytest.fixture(scope="session")
def weights(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Path of a weights file with the classes CLASSES."""
    from made_weights import CLASSES, write_random_weights

    folder = tmp_path_factory.mktemp("weights")
    return str(write_random_weights(folder / "some.safetensors", 1, CLASSES))


@pytest.fixture(scope="session")
def other_weights(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Path of a weights file with the classes OTHER_CLASSES."""
    from made_weights import OTHER_CLASSES, write_random_weights

    folder = tmp_path_factory.mktemp("weights")
    return str(write_random_weights(folder / "other.safetensors", 4, OTHER_CLASSES))


@pytest.fixture
def parameters(weights: str) -> dict[str, Any]:
    """Parameters of a detector on the CPU with the classes CLASSES."""
    return {"weights": weights, "device": "cpu"}


@pytest.fixture(scope="session")
def images() -> list[np.ndarray]:
    """Images of different content and size, BGR."""
    sizes = ((320, 240), (200, 300), (640, 480), (97, 113), (500, 375))
    return [made_image(seed, *size) for seed, size in enumerate(sizes)]


@pytest.fixture(scope="session")
def image_folder(images: list[np.ndarray], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the images as lossless files, in their order."""
    from ssd_ros.io import image_files

    folder = tmp_path_factory.mktemp("images")
    for i, image in enumerate(images):
        image_files.write(folder / f"{i}.png", image)
    return folder


@pytest.fixture(scope="session")
def rclpy_started() -> Iterator[None]:
    """rclpy, initialised for the whole session."""
    import rclpy
    from rclpy.signals import SignalHandlerOptions

    rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
    yield
    rclpy.shutdown()


_numbers = itertools.count(1)


@pytest.fixture
def graph(rclpy_started: None, tmp_path: Path) -> Iterator[Graph]:
    """A namespace of its own for the test."""
    from graph import Graph

    own = Graph(f"/test_{next(_numbers)}", tmp_path)
    yield own
    own.close()


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Iterator[Gate]:
    """An open gate before every detector of this process."""
    from gate import Gate

    from ssd_ros.detector import Detector

    new = Gate()
    monkeypatch.setattr(Detector, "__call__", new.guard(Detector.__call__))
    yield new
    new.open()


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """PyTorch with one thread: in small networks and images threads only wait for each other."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
