# SPDX-License-Identifier: Apache-2.0
"""The network alone against OpenVINO's own benchmark_app: same graph, precision and threads.

    python benchmarks/network.py [--seconds 4] [--repeats 3] [--threads 2] [--json OUT]

Both run for some seconds without a pause, and take turns. benchmark_app reads the graph from a file
and runs it for latency, one request at a time.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import openvino as ov
from inference import variants
from measuring import Table, add_arguments, cores, report
from networks import quantised, weights_of_width
from tqdm import tqdm

from ssd_ros.backends import openvino_graph
from ssd_ros.backends.backend import BackendOptions
from ssd_ros.backends.openvino import OpenVINOBackend, choose_precision, engine, weight_bits
from ssd_ros.weights.weights import Weights

TYPES = {"fp32": "f32", "bf16": "bf16"}  # of what is not int8
COLUMNS = {
    "width": "`width`",
    "precision": "precision",
    "ms": "ssd_ros (ms)",
    "benchmark_app_ms": "benchmark_app (ms)",
    "ratio": "ratio",
}


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add_arguments(parser)
    add("--seconds", type=int, default=4, help="of each turn, default: %(default)s")
    add("--repeats", type=int, default=3, help="turns of each, default: %(default)s")
    add("--threads", type=int, default=cores(), help="default: %(default)s")
    add("--widths", type=float, nargs="+", default=[1.0, 0.25], help="default: %(default)s")
    options = parser.parse_args()
    if options.quick:
        options.seconds, options.repeats, options.widths = 1, 1, [0.25]
    precisions = [precision for backend, precision in variants() if backend == "openvino"]
    rows = []
    turns = len(options.widths) * len(precisions) * options.repeats
    with tqdm(total=turns, unit="turn", disable=None) as bar, tempfile.TemporaryDirectory() as path:
        for width in options.widths:
            weights = quantised(weights_of_width(width))
            for precision in precisions:
                rows.append(compare(weights, precision, Path(path), options, bar))
    text = (
        f"Network without post-processing, 21 outputs a box, {options.threads} threads. Medians of "
        f"{options.repeats} alternating turns of {options.seconds} s each; benchmark_app with the "
        "same graph, `-hint latency -api sync`; it pins its threads, ssd_ros leaves them to the "
        "system, for the robot's other processes."
    )
    report(options, [Table("Network against OpenVINO's benchmark_app", text, COLUMNS, rows)])
    return 0


def compare(
    weights: Weights, precision: str, folder: Path, options: argparse.Namespace, bar: tqdm
) -> dict[str, object]:
    """The row of one network and precision."""
    bits = weight_bits() if precision == "int8" else None
    graph = openvino_graph.build(weights, bits)
    ov.save_model(graph, folder / "network.xml", compress_to_fp16=False)
    supported = engine().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    floats = choose_precision("auto", supported) if precision == "int8" else precision
    choice = BackendOptions("openvino", "cpu", precision, options.threads)
    backend = OpenVINOBackend(weights, choice)
    ours, theirs = list[float](), list[float]()
    for _ in range(options.repeats):
        ours.append(latency(backend, options.seconds, weights.config.input_size))
        theirs.append(benchmark_app(folder, floats, options))
        bar.update()
    backend.close()
    ms, app_ms = statistics.median(ours), statistics.median(theirs)
    return {
        "width": f"{weights.config.width:g}",
        "precision": precision,
        "ms": ms,
        "benchmark_app_ms": app_ms,
        "ratio": ms / app_ms,
    }


def latency(backend: OpenVINOBackend, seconds: float, size: int) -> float:
    """Median of the milliseconds of one image."""
    image = np.random.default_rng(0).integers(0, 256, (1, size, size, 3), dtype=np.uint8)
    times = []
    end = time.perf_counter() + seconds
    while (start := time.perf_counter()) < end:
        backend.infer(image)
        times.append(1e3 * (time.perf_counter() - start))
    return statistics.median(times)


def benchmark_app(folder: Path, precision: str, options: argparse.Namespace) -> float:
    """Median latency in milliseconds as benchmark_app reports it.

    Raises:
        RuntimeError: it is not installed, or failed.
    """
    program = shutil.which("benchmark_app") or shutil.which(
        "benchmark_app", path=str(Path(sys.executable).parent)
    )
    if program is None:
        raise RuntimeError("benchmark_app not found: it is part of PyPI's openvino")
    command = [program, "-m", str(folder / "network.xml"), "-d", "CPU", "-hint", "latency"]
    # As options -hint and -nthreads exclude each other.
    config = {"CPU": {"INFERENCE_NUM_THREADS": options.threads}}
    (folder / "config.json").write_text(json.dumps(config))
    command += ["-api", "sync", "-t", str(options.seconds), "-infer_precision", TYPES[precision]]
    command += ["-load_config", str(folder / "config.json")]
    command += ["-report_type", "no_counters", "-json_stats", "-report_folder", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"benchmark_app failed: {done.stdout[-500:]}{done.stderr[-500:]}")
    results = json.loads((folder / "benchmark_report.json").read_text())["execution_results"]
    return float(results["latency (ms)"])


if __name__ == "__main__":
    sys.exit(main())
