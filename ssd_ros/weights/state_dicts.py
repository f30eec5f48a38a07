# SPDX-License-Identifier: Apache-2.0
"""Finds the state dict in what a training script saved: the only place that knows such habits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ssd_ros.weights.pickle_data import Opaque
from ssd_ros.weights.pytorch_file import TensorView
from ssd_ros.weights.weights import WeightsError

# Where trainers put the state dict, best first; an average of the weights where there is no other.
_KEYS = (
    *("state_dict", "model", "model_state", "model_state_dict", "net", "network", "weights"),
    *("ema", "model_ema", "ema_state_dict"),
)
# What wrappers put before the name of every tensor.
_PREFIXES = ("module.", "model.", "net.", "_orig_mod.")
_OWN = {"options", "classes", "progress", "model", "optimizer", "average"}
_DEPTH = 4  # of dictionaries in each other


def find(content: Any) -> dict[str, TensorView]:
    """The tensors of a network by their own names.

    Args:
        content: as `pytorch_file` reads it: a state dict, or dictionaries with one inside.

    Raises:
        WeightsError: there is no state dict, or it holds a tensor that is no plain array.
    """
    if isinstance(content, dict) and content.keys() >= _OWN:
        raise WeightsError(
            "is a checkpoint of training.train, to be resumed; its weights are in best.safetensors "
            "and last.safetensors beside it"
        )
    found = _search(content, _DEPTH)
    if found is None:
        raise WeightsError(_describe(content))
    for name, value in found.items():
        # Sparse and quantised ones, which PyTorch makes by functions of these names, too.
        made_by = value.made_by if isinstance(value, Opaque) else None
        if made_by and made_by.module == "torch._utils" and made_by.name.startswith("_rebuild"):
            raise WeightsError(f"tensor '{name}' is no plain array ({made_by})")
    tensors = {name: value for name, value in found.items() if isinstance(value, TensorView)}
    return without_prefix(tensors)


def without_prefix(tensors: dict[str, Any]) -> dict[str, Any]:
    """The same tensors without the prefixes that all their names have."""
    for prefix in _PREFIXES * 2:
        # Counted beside the network by torch.optim.swa_utils.AveragedModel.
        names = tensors.keys() - {"n_averaged"}
        if names and all(name.startswith(prefix) for name in names):
            tensors = {
                name.removeprefix(prefix): tensors[name] for name in tensors if name in names
            }
    return tensors


def _search(content: Any, depth: int) -> Mapping[str, Any] | None:
    """The first dictionary that holds tensors, by the keys of `_KEYS`."""
    if not isinstance(content, dict) or not depth:
        return None
    if any(isinstance(value, TensorView) for value in content.values()):
        return content
    inner = (_search(content[key], depth - 1) for key in _KEYS if key in content)
    return next((found for found in inner if found is not None), None)


def _describe(content: Any) -> str:
    """The kind of what is not a state dict, for a message."""
    values = content.values() if isinstance(content, dict) else [content]
    if module := next((v for v in values if isinstance(v, Opaque) and v.is_module), None):
        name = f" ({module.made_by})" if module.made_by else ""
        return (
            f"holds a whole module{name}, which only its own code can load; with that code save "
            "the state dict: torch.save(model.state_dict(), …)"
        )
    references = [v.made_by for v in values if isinstance(v, Opaque) and v.made_by]
    if references:
        return (
            f"refused: the pickle references {references[0]} and could execute code; save only the "
            "state dict: torch.save(model.state_dict(), …)"
        )
    if isinstance(content, dict):
        kind = "dictionary of " + (", ".join(map(repr, sorted(content)[:5])) or "nothing")
    else:
        kind = "tensor" if isinstance(content, TensorView) else type(content).__name__
    return f"holds a {kind}, expected a state dict of tensors"
