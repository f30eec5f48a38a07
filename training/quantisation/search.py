# SPDX-License-Identifier: Apache-2.0
"""Which convolutions must stay in floating point so that int8 keeps the accuracy."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from tqdm import tqdm

from ssd_ros.backends.backend import BackendOptions
from ssd_ros.backends.create import create
from ssd_ros.model.layers import convolutions, heads
from ssd_ros.weights.weights import Weights

KEPT_COUNTS = (1, 2, 4, 8, 16)  # of convolutions, tried one after the other


@dataclass(frozen=True)
class Found:
    """Quantised weights, their mAP, and how many networks were evaluated to find them."""

    weights: Weights
    score: float
    evaluations: int


def find(
    weights: Weights,
    evaluate: Callable[[Weights], float],
    lowest: float,
    images: np.ndarray,
    options: BackendOptions,
) -> Found:
    """The quantised weights with the fewest convolutions kept that reach a score.

    The convolutions whose rounding alone changes the outputs most are kept first.

    Args:
        weights: quantised; nothing is kept yet.
        evaluate: the mAP of quantised weights in int8.
        lowest: mAP that is enough.
        images: to rank the convolutions with, uint8 RGB (B, S, S, 3).
        options: of the int8 backend.

    Raises:
        ValueError: the score is not reached with 16 convolutions kept.
    """
    score = evaluate(weights)
    if score >= lowest:
        return Found(weights, score, 1)
    print(f"int8: mAP {score:.4f}, expected at least {lowest:.4f}")
    ranked = by_error(weights, images, options)
    for evaluations, count in enumerate(KEPT_COUNTS, start=2):
        candidate = with_kept(weights, ranked[:count])
        score = evaluate(candidate)
        print(f"int8 but for {', '.join(ranked[:count])}: mAP {score:.4f}")
        if score >= lowest:
            return Found(candidate, score, evaluations)
    raise ValueError(
        f"int8 reaches mAP {score:.4f} with {KEPT_COUNTS[-1]} of {len(ranked)} convolutions in "
        f"floating point, expected at least {lowest:.4f}; nothing is written. A larger --max-drop "
        "accepts it; more --images may measure better ranges"
    )


def by_error(weights: Weights, images: np.ndarray, options: BackendOptions) -> list[str]:
    """All convolutions, first the one whose rounding alone changes the outputs most."""
    config = weights.config
    convs = [c.name for c in (*convolutions(config), *heads(config, len(weights.classes)))]
    exact = _outputs(with_kept(weights, convs), images, options)
    errors = {}
    for name in tqdm(convs, desc="rank", unit="layer", disable=None, leave=False):
        alone = with_kept(weights, [conv for conv in convs if conv != name])
        errors[name] = sum(
            float(np.square(a - b).mean() / np.square(b).mean())
            for a, b in zip(_outputs(alone, images, options), exact, strict=True)
        )
    return sorted(convs, key=lambda name: -errors[name])


def with_kept(weights: Weights, kept: list[str]) -> Weights:
    """Quantised weights of which these convolutions stay in floating point."""
    assert weights.quantisation is not None
    return replace(weights, quantisation=replace(weights.quantisation, kept=frozenset(kept)))


def _outputs(
    weights: Weights, images: np.ndarray, options: BackendOptions
) -> tuple[np.ndarray, ...]:
    backend = create(weights, options)
    outputs = tuple(np.array(output) for output in backend.infer(images))
    backend.close()
    return outputs
