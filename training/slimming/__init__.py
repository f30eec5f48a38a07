# SPDX-License-Identifier: Apache-2.0
"""Narrower networks from trained ones (structured pruning)."""
