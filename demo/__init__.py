# SPDX-License-Identifier: Apache-2.0
"""The demo and its data; not installed."""
