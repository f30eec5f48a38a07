# SPDX-License-Identifier: Apache-2.0
"""Images from files and to files."""
