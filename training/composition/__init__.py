# SPDX-License-Identifier: Apache-2.0
"""Images composed of cut-outs."""
