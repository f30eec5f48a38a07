# SPDX-License-Identifier: Apache-2.0
"""Average precision and the plots of a report."""
