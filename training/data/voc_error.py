# SPDX-License-Identifier: Apache-2.0
"""The error of everything that reads datasets."""


class VOCError(ValueError):
    """A dataset that cannot be used; the message names the file and the reason."""
