# SPDX-License-Identifier: Apache-2.0
"""The dataset of the demo's weights: `python -m demo.dataset OUT`."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from demo import photographs
from training.compose import argument_parser, write_dataset
from training.composition.compose import CutOut


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argument_parser(
        "python -m demo.dataset",
        "Composes the demo's dataset: five objects, cut out of photographs.",
    )
    options = parser.parse_args(arguments)
    try:
        cutouts = [CutOut(name, pixels) for name, pixels in photographs.cutouts()]
        write_dataset(options, cutouts, photographs.backgrounds())
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
