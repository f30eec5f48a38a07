# SPDX-License-Identifier: Apache-2.0
"""The ranges of a network's activations on images, measured by NNCF."""

from __future__ import annotations

import contextlib
import io
import logging
from collections.abc import Sequence
from pathlib import Path

import nncf
import numpy as np
from nncf.quantization.range_estimator import RangeEstimatorParametersSet
from tqdm import tqdm

from ssd_ros.backends import openvino_graph
from ssd_ros.detector import network_input
from ssd_ros.image import Image
from ssd_ros.io import image_files
from ssd_ros.model.layers import activations
from ssd_ros.weights.quantisation import Quantisation
from ssd_ros.weights.weights import Weights


def measure(weights: Weights, files: Sequence[Path]) -> Quantisation:
    """A quantisation of all convolutions, from NNCF's post-training quantisation.

    The ranges hold all values of all images: NNCF's default, the mean of each image's highest
    value, clips values that matter. Its rounding of the weights is not used: the backend rounds
    them as the processor needs it. Neither is its bias correction, which would need a second set
    of biases.

    Args:
        weights: the network.
        files: images, at least one; they are read one at a time.

    Raises:
        ValueError: an image cannot be read.
    """
    with tqdm(total=len(files), desc="ranges", unit="image", disable=None, leave=False) as bar:

        def prepare(file: Path) -> np.ndarray:
            bar.update()
            return network_input([Image(image_files.read(file))], weights.config.input_size)

        nncf.set_log_level(logging.ERROR)
        with contextlib.redirect_stdout(io.StringIO()):  # its own bars, also where no terminal is
            model = nncf.quantize(
                openvino_graph.build(weights),
                nncf.Dataset(files, prepare),
                subset_size=len(files),
                advanced_parameters=nncf.AdvancedQuantizationParameters(
                    activations_range_estimator_params=RangeEstimatorParametersSet.MINMAX,
                    disable_bias_correction=True,
                ),
            )
    ranges = {}
    for node in model.get_ops():
        if node.get_type_name() == "FakeQuantize":
            name = node.input_value(0).get_node().get_friendly_name()
            low, high = (node.input_value(k).get_node().get_data() for k in (1, 2))
            ranges[name] = float(np.min(low)), float(np.max(high))
    return Quantisation({name: ranges[name] for name in activations(weights.config)})
