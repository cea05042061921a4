# SPDX-License-Identifier: Apache-2.0
"""Import paths that vLLM dictates; nothing of ours lives here."""

from __future__ import annotations
