# SPDX-License-Identifier: Apache-2.0
"""Matching, metrics, and the parts of a report."""
