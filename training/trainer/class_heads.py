# SPDX-License-Identifier: Apache-2.0
"""The class heads of another detector: rows of the classes that both networks have."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def shared_classes(classes: Sequence[str], theirs: Sequence[str] | None) -> tuple[str, ...]:
    """The classes that both have, by their names, in the order of the first."""
    return tuple(name for name in classes if name in (theirs or ()))


def describe(classes: Sequence[str], theirs: Sequence[str]) -> str:
    """Which classes keep their scores, for people."""
    shared = shared_classes(classes, theirs)
    new = [name for name in classes if name not in shared]
    if not shared:
        return f"new class heads: none of these classes is in the file: {', '.join(new)}"
    kept = f"class heads kept for {', '.join(shared)}"
    return f"{kept}; new for {', '.join(new)}" if new else kept


def copy_shared(
    head: Tensor, classes: Sequence[str], theirs: Tensor, their_classes: Sequence[str]
) -> None:
    """Copies the scores of the background and of shared classes; the others stay as they are.

    Args:
        head: kernel or bias of a class head, (boxes * (1 + C), …), changed in place.
        classes: of the head, without the background.
        theirs: the same of another network, (boxes * (1 + D), …).
        their_classes: of that, in any order.

    Raises:
        ValueError: the heads are of other numbers of boxes or channels.
    """
    ours_per_box = head.view(-1, 1 + len(classes), *head.shape[1:])
    theirs_per_box = theirs.reshape(-1, 1 + len(their_classes), *theirs.shape[1:])
    if ours_per_box[:, 0].shape != theirs_per_box[:, 0].shape:
        raise ValueError(
            f"heads of shape {tuple(theirs.shape)} for {len(their_classes)} classes do not fit "
            f"{tuple(head.shape)} for {len(classes)}"
        )
    shared = shared_classes(classes, their_classes)
    to = [0, *(1 + classes.index(name) for name in shared)]
    of = [0, *(1 + their_classes.index(name) for name in shared)]
    with torch.no_grad():
        ours_per_box[:, to] = theirs_per_box[:, of].to(head)
