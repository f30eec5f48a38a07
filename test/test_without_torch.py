# SPDX-License-Identifier: Apache-2.0
"""PyTorch is one engine of several: everything else is imported, and weights read, without it."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

import ssd_ros
from ssd_ros.weights.reader import read

WITHOUT_TORCH = "import sys; sys.modules['torch'] = sys.modules['torchvision'] = None\n"
PYTORCH = {  # the network itself; whatever else needs PyTorch imports it where it uses it
    *("ssd_ros.backends.cuda_graph", "ssd_ros.backends.pytorch", "ssd_ros.model.box_coding"),
    *("ssd_ros.model.postprocess", "ssd_ros.model.precision", "ssd_ros.model.ssd"),
}


def run_without_torch(code: str) -> str:
    command = [sys.executable, "-c", WITHOUT_TORCH + code]
    root = Path(ssd_ros.__file__).parents[1]
    result = subprocess.run(command, capture_output=True, text=True, check=False, cwd=root)
    assert result.returncode == 0, result.stderr
    return result.stdout


def modules() -> list[str]:
    """All modules of the package but the network's; without ROS 2, those that need none of it."""
    root = Path(ssd_ros.__file__).parent
    names = [
        ".".join((root.name, *path.relative_to(root).with_suffix("").parts)).removesuffix(
            ".__init__"
        )
        for path in sorted(root.rglob("*.py"))
    ]
    ros = importlib.util.find_spec("rclpy") and importlib.util.find_spec("vision_msgs")
    needed = {"ssd_ros.ros.": ros}
    for name in ("application", "server"):
        needed[f"ssd_ros.web.{name}"] = importlib.util.find_spec("aiohttp")
    missing = tuple(prefix for prefix, found in needed.items() if not found)
    return [n for n in names if n not in PYTORCH and not n.startswith(missing)]


def test_modules_are_imported_without_pytorch():
    names = modules()
    assert {"ssd_ros.detector", "ssd_ros.weights.reader", "ssd_ros.drawing"} <= set(names)
    run_without_torch(
        "import importlib\n" + "".join(f"importlib.import_module('{n}')\n" for n in names)
    )


def test_state_dicts_are_read_without_pytorch(tmp_path):
    import torch

    tensor = torch.arange(6).reshape(2, 3).bfloat16()
    torch.save({"model": {"weight": tensor.t()}}, tmp_path / "w.pth")
    printed = run_without_torch(
        "from pathlib import Path\n"
        "from ssd_ros.weights.containers import open_file\n"
        f"print(open_file(Path({str(tmp_path / 'w.pth')!r}))[1]()['weight'].tolist())\n"
    )
    assert printed == f"{tensor.t().tolist()}\n"


def test_native_weights_are_read_without_pytorch():
    code = "from ssd_ros.weights.reader import read; w = read('demo'); print(*w.tensors, w.classes)"
    printed = run_without_torch(code)
    for fact in ("conv1.1.weight", "norm4.scale", str(read("demo").classes)):
        assert fact in printed


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("", "no engine is installed (OpenVINO, or PyTorch): pip install openvino"),
        ("device='cuda'", "device 'cuda' needs PyTorch: the module 'torch' is not installed"),
        ("backend='openvino'", "backend 'openvino' needs the module 'openvino', which is not"),
    ],
)
def test_without_an_engine_the_message_says_what_to_install(options, message):
    printed = run_without_torch(
        "sys.modules['openvino'] = None\n"
        "from ssd_ros.backends.backend import BackendOptions\n"
        "from ssd_ros.backends.create import import_engine\n"
        f"try:\n    import_engine(BackendOptions({options}))\n"
        "except ValueError as error:\n    print(error)\n"
    )
    assert message in printed


def test_openvino_detects_without_pytorch():
    run_without_torch(
        "import numpy as np\n"
        "from ssd_ros.backends.backend import BackendOptions\n"
        "from ssd_ros.detections import Thresholds\n"
        "from ssd_ros.detector import Detector\n"
        "from ssd_ros.image import Image\n"
        "image = Image(np.random.default_rng(0).integers(0, 256, (90, 90, 3), dtype=np.uint8))\n"
        "detector = Detector('demo', BackendOptions('openvino'), Thresholds(0.0))\n"
        "assert len(detector([image])[0]) > 0\n"
    )


def test_what_needs_pytorch_says_so():
    refusal = run_without_torch(
        "from ssd_ros.backends.backend import BackendOptions\n"
        "from ssd_ros.detector import Detector\n"
        "try:\n    Detector('demo', BackendOptions('pytorch'))\n"
        "except ValueError as error:\n    print(error)\n"
    )
    assert "needs the module 'torch'" in refusal
