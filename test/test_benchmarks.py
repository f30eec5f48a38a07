# SPDX-License-Identifier: Apache-2.0
"""The benchmarks run, and their results become a page. No times are judged."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from ssd_ros.backends.backend import BackendOptions
from ssd_ros.backends.create import create
from ssd_ros.detector import network_input
from ssd_ros.image import Image

ROOT = Path(__file__).parents[1]
RESULT = {
    "benchmark": "inference",
    "command": "python benchmarks/inference.py",
    "date": "2026-01-02",
    "machine": {
        "name": "Imaginary 9, AVX2",
        "slug": "imaginary-9-avx2",
        "processor": "Imaginary 9",
        "vector extension": "AVX2",
        "cores": 2,
        "memory (GB)": 8,
        "system": "Linux x86_64",
    },
    "versions": {"ssd_ros": "1.2.3", "openvino": "4.5"},
    "tables": [
        {
            "title": "Image to detections",
            "text": "How it was measured.",
            "columns": {"network": "network", "width": "`width`", "ms": "median (ms)"},
            "rows": [
                {"network": "torchvision", "width": "1", "ms": 340.4},
                {
                    "network": "ssd_ros",
                    "width": "1",
                    "engine": "OpenVINO",
                    "precision": "fp32",
                    "ms": 12.34,
                },
                {
                    "network": "ssd_ros",
                    "width": "0.5",
                    "engine": "OpenVINO",
                    "precision": "fp32",
                    "ms": None,
                },
            ],
        }
    ],
}


def run(script: str, *arguments: object, status: int = 0) -> str:
    """Output of a benchmark's script."""
    command = [sys.executable, f"benchmarks/{script}", *map(str, arguments)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout + (done.stderr if status else "")


def write(folder: Path, name: str = "inference", **changes: object) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.json").write_text(json.dumps({**RESULT, "benchmark": name, **changes}))


def render(tmp_path: Path, status: int = 0) -> str:
    arguments = ["--results", tmp_path / "results", "--page", tmp_path / "page.md"]
    return run("render.py", *arguments, status=status)


def test_the_page_has_a_section_for_each_processor_and_the_command_of_each_table(tmp_path):
    results = tmp_path / "results"
    write(results / "imaginary-9-avx2")
    write(results / "imaginary-9-avx2", "node", versions={"ssd_ros": "1.2.4", "openvino": "4.5"})
    write(results / "other", "node", machine={**RESULT["machine"], "name": "Other"})
    assert render(tmp_path).strip().endswith("3 tables of 2 machines")
    page = (tmp_path / "page.md").read_text()
    assert page.index("## Imaginary 9, AVX2\n") < page.index("## Other\n")
    assert "| network | `width` | median (ms) |\n| --- | --- | --: |\n" in page
    assert "| torchvision | 1 | 340 |\n| ssd_ros | 1 | 12.3 |\n| ssd_ros | 0.5 | – |\n" in page
    assert page.count("`python benchmarks/inference.py`") == 3
    assert "8 GB of memory, Linux x86_64; openvino 4.5.\n" in page  # what all results share
    assert "2026-01-02; ssd_ros 1.2.4. How it was measured." in page
    assert page.count("](page-imaginary-9-avx2.svg)") == 1
    plot = (tmp_path / "page-imaginary-9-avx2.svg").read_text()
    assert "ssd_ros, OpenVINO fp32" in plot
    assert "torchvision" in plot


def test_the_same_results_give_the_same_files(tmp_path):
    write(tmp_path / "results" / "a")
    render(tmp_path)
    first = {path: path.read_bytes() for path in tmp_path.glob("page*")}
    render(tmp_path)
    assert {path: path.read_bytes() for path in tmp_path.glob("page*")} == first
    assert len(first) == 2


def test_a_file_that_is_no_result_is_named(tmp_path):
    write(tmp_path / "results" / "a")
    (tmp_path / "results" / "a" / "b.json").write_text("{}")
    output = render(tmp_path, status=1)
    assert "b.json' is not the result of a benchmark" in output
    assert "Traceback" not in output


@pytest.mark.parametrize("outputs", [21, 91])
def test_scores_of_made_networks_are_spread_as_they_say(outputs, monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    import networks

    weights = networks.weights_of_width(0.25, outputs)
    images = network_input([Image(networks.image_of(networks.SIZE))])
    logits, _ = create(weights, BackendOptions(device="cpu")).infer(images)
    exponentials = np.exp(logits[0] - logits[0].max(axis=1, keepdims=True))
    scores = (exponentials / exponentials.sum(axis=1, keepdims=True))[:, 1:]
    assert (scores > 0.01).sum() == pytest.approx(networks.CANDIDATES, rel=0.25)
    assert (scores > 0.5).sum() == pytest.approx(networks.SURE, rel=0.25)


@pytest.mark.slow
def test_benchmarks_run_from_measurement_to_page(tmp_path):
    results, page = tmp_path / "results", tmp_path / "page.md"
    arguments = ["--quick", "--only", "inference", "install_size"]
    output = run("run_all.py", *arguments, "--results", results, "--page", page)
    assert output.splitlines()[-1].startswith(f"wrote {page}: 2 tables of 1 machine, 2 benchmarks")
    (machine,) = results.iterdir()
    assert sorted(path.name for path in machine.iterdir()) == [
        "inference.json",
        "install_size.json",
    ]
    rows = json.loads((machine / "inference.json").read_text())["tables"][0]["rows"]
    assert {(row["network"], row["engine"]) for row in rows} >= {
        ("torchvision ssd300_vgg16", "PyTorch"),
        ("ssd_ros", "OpenVINO"),
    }
    assert all(row["ms"] > 0 for row in rows)
    assert "PyTorch and torchvision, in addition" in page.read_text()


def test_a_benchmark_that_fails_is_named_and_the_others_are_kept(tmp_path):
    page = tmp_path / "page.md"
    (tmp_path / "results").write_text("a file where a folder must be")
    arguments = ["--quick", "--only", "install_size", "--results", tmp_path / "results"]
    output = run("run_all.py", *arguments, "--page", page, status=1)
    assert "failed: install_size" in output
