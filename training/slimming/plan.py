# SPDX-License-Identifier: Apache-2.0
"""What a run of training.slim does in which step, in a file that --resume reads."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ssd_ros import atomic
from ssd_ros.model.config import SSDConfig
from ssd_ros.weights.names import resolve
from ssd_ros.weights.native import config_from_text, config_to_text
from training.trainer import options as training_options
from training.trainer import run_files

PLAN = "slim.json"
PRUNED = "pruned.safetensors"  # in the folder of each step: what its training begins with
_FIRST_STEP = "step1"


@dataclass(frozen=True)
class Plan:
    """How many channels are left after each step, and what that depends on.

    Attributes:
        asked: options of training.slim by name, and the weights.
        steps: configurations, the result's last; at least one.
        options: of training.train, in each step; None in plans that do not have them.
        digest: SHA-256 of the weights file; None in plans that do not have it.
    """

    asked: Mapping[str, Any]
    steps: tuple[SSDConfig, ...]
    options: Mapping[str, Any] | None = None
    digest: str | None = None

    def folders(self, out: Path) -> list[Path]:
        """The folder of each step's run; that of the last step is the whole run's."""
        return [*(out / f"step{k}" for k in range(1, len(self.steps))), out]

    def check(
        self, asked: Mapping[str, Any], options: training_options.Options, digest: str | None
    ) -> None:
        """Checks that the run to resume is what the command line asks for.

        Args:
            asked, options, digest: as the attributes, of the command line. Without a digest the
                weights are gone; only a step that has not begun needs them.

        Raises:
            ValueError: something that decides about the result differs.
        """
        end = "; --resume needs the options that the run began with, or choose another --out"
        for name, value in asked.items():
            before = self.asked.get(name)
            if value != before:
                flag = "WEIGHTS" if name == "weights" else f"--{name.replace('_', '-')}"
                now = "is not given" if value is None else f"{value} differs"
                has = "has none" if before is None else f"has {before!r}"
                raise ValueError(f"{flag} {now}: the run to resume {has}{end}")
        if digest and self.digest and digest != self.digest:
            raise ValueError(
                f"weights file '{asked['weights']}' has changed since the run to resume began; "
                "restore it, or choose another --out"
            )
        if self.options is not None:
            given = training_options.as_dict(options)
            if changed := training_options.differing(given, self.options):
                raise ValueError(changed + end)


def read(out: Path) -> Plan | None:
    """The plan in the folder of a run, None where there is none.

    Raises:
        ValueError: the file is broken.
    """
    path = out / PLAN
    if not path.exists():
        return None
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        steps = tuple(config_from_text(text) for text in values["steps"])
        if not steps:
            raise ValueError("no steps")
        stored = values.get("options")
        return Plan(
            dict(values["asked"]), steps, stored and dict(stored), values.get("weights_sha256")
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"'{path}' is not a plan of training.slim: {error!r}; choose another --out"
        ) from None


def write(out: Path, plan: Plan) -> None:
    """Writes the plan into the folder of a run, which is made if it is missing."""
    values = {
        "asked": dict(plan.asked),
        "steps": [config_to_text(config) for config in plan.steps],
        "options": plan.options and dict(plan.options),
        "weights_sha256": plan.digest,
    }
    atomic.write(out / PLAN, (json.dumps(values, indent=2) + "\n").encode())


def check_unused(out: Path) -> None:
    """Checks that a run can begin in a folder, and would replace nothing there.

    Raises:
        ValueError: the folder holds a run, or weights that would be overwritten.
        OSError: it is a file, or cannot be written to.
    """
    if out.exists() and not out.is_dir():
        raise NotADirectoryError(f"--out '{out}' is a file, expected a folder")
    names = (run_files.CHECKPOINT, run_files.RUN_INFO, run_files.BEST, run_files.LAST)
    for name in (*names, PRUNED, _FIRST_STEP):
        if (out / name).exists():
            raise ValueError(
                f"--out '{out}' holds '{name}', which would be overwritten; choose another folder"
            )
    atomic.check_writable(out / PLAN)


def digest(weights: str) -> str | None:
    """SHA-256 of a weights file; None where it cannot be read."""
    with contextlib.suppress(OSError, ValueError):
        return hashlib.sha256(resolve(weights).read_bytes()).hexdigest()
    return None
