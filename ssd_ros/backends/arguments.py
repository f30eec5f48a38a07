# SPDX-License-Identifier: Apache-2.0
"""The command-line arguments of `BackendOptions`, the same in every command."""

from __future__ import annotations

import argparse

from ssd_ros.backends.backend import BACKENDS, PRECISIONS, BackendOptions


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds an argument for each field of `BackendOptions`."""
    add = parser.add_argument
    add(
        "--backend",
        default="auto",
        choices=("auto", *BACKENDS),
        help="engine: auto is PyTorch where it has a CUDA device, else OpenVINO where it is "
        "installed (default: %(default)s)",
    )
    add("--device", default="auto", help="auto, cpu, cuda or cuda:N (default: %(default)s)")
    add(
        "--precision",
        default="auto",
        choices=("auto", *PRECISIONS),
        help="auto is the fastest that keeps the accuracy: fp16 on CUDA; on a CPU "
        "with OpenVINO int8 if the weights are quantised, else bf16 if the processor has it; "
        "else fp32 (default: %(default)s)",
    )
    add(
        "--threads",
        type=int,
        default=0,
        metavar="N",
        help="CPU threads; 0 is one per core (default: %(default)s)",
    )


def from_arguments(arguments: argparse.Namespace) -> BackendOptions:
    """The options that the user gave.

    Raises:
        ValueError: a value is out of its range.
    """
    return BackendOptions(
        arguments.backend, arguments.device, arguments.precision, arguments.threads
    )
