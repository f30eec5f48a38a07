# SPDX-License-Identifier: Apache-2.0
"""The state dicts of other SSD300 implementations, one file a family."""
