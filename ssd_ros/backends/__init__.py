# SPDX-License-Identifier: Apache-2.0
"""What runs the network: one module an engine, behind the interface in `backend`."""
