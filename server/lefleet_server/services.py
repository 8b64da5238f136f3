"""The finished objects every request works with; built once by create_app."""

from dataclasses import dataclass

from lefleet_server.accounts.provider import Provider
from lefleet_server.alerts import Alerts
from lefleet_server.config import Settings
from lefleet_server.db import Database
from lefleet_server.episodes.incoming import Incoming
from lefleet_server.episodes.readers import Readers
from lefleet_server.episodes.reception import Reception
from lefleet_server.exports.exporter import Exporter
from lefleet_server.metrics import Metrics
from lefleet_server.robots.beats import Beats
from lefleet_server.robots.exposition import Lines
from lefleet_server.robots.fleet import Fleet
from lefleet_server.robots.watches import Watches
from lefleet_server.robots.wishes import Wishes
from lefleet_server.storage import BlobStore


@dataclass(frozen=True, slots=True)
class Services:
    settings: Settings
    db: Database
    blobs: BlobStore
    incoming: Incoming
    reception: Reception
    reader: Readers
    exports: Exporter
    metrics: Metrics
    wishes: Wishes
    watches: Watches
    beats: Beats
    robot_lines: Lines
    alerts: Alerts
    fleet: Fleet
    oidc: Provider | None
    """None: nobody logs in that way."""
    instance: str
    """Of this start of this process alone."""
