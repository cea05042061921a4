# SPDX-License-Identifier: Apache-2.0
"""vLLM: three front doors (`connector`, `vllm_v1_adapter`, `lmcache_mp_connector`) to the same two
halves.

`scheduler` runs beside vLLM's scheduler: it looks prefixes up and says what to copy. `worker` runs
beside the model runner: it copies. Both attach to the segment on their own (`attachment`); what
they say to each other is `step_plan`. `plugin` teaches vLLM the keyword arguments and the
environment variables that switch us on.
"""

from __future__ import annotations
