"""Writes the run's counts per host to $LEFLEET_FLEET_STATS, for the tests."""

import json
import os
from pathlib import Path

from ansible.plugins.callback import CallbackBase

DOCUMENTATION = """
name: stats
type: aggregate
short_description: counts per host as JSON
description: Writes ok, changed, failures, unreachable and so on of each host to $LEFLEET_FLEET_STATS.
"""


class CallbackModule(CallbackBase):
    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "stats"

    def v2_playbook_on_stats(self, stats):
        if path := os.environ.get("LEFLEET_FLEET_STATS"):
            counts = {host: stats.summarize(host) for host in stats.processed}
            Path(path).write_text(json.dumps(counts))
