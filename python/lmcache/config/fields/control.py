# SPDX-License-Identifier: Apache-2.0
"""Settings of how an instance presents itself to routers and controllers."""

from __future__ import annotations

from pydantic import BaseModel

from lmcache.config.option import option
from lmcache.config.value_types import Address, Name, Ports


class ControlOptions(BaseModel):
    """Control: this instance towards routers and controllers"""

    lmcache_instance_id: Name | None = option(
        None,
        "Name of this instance towards routers and controllers.",
        default_text="host name and process number",
    )
    enable_controller: bool = option(False, "Report to a cache controller.")
    controller_pull_url: Address | None = option(None, "Where the controller takes reports.")
    controller_reply_url: Address | None = option(None, "Where the controller answers questions.")
    lmcache_worker_ports: Ports | None = option(
        None, "Ports on which the workers of this instance listen for the controller, one per rank."
    )
