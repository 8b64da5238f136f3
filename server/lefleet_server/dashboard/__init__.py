"""What people see: NiceGUI pages over read-only queries, on the same application as the API."""

from lefleet_server.dashboard.mount import mount

__all__ = ["mount"]
