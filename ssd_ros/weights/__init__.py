# SPDX-License-Identifier: Apache-2.0
"""Weights files: read, check, write; recognise and convert those of other implementations."""
