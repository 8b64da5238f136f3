"""The LeFleet agent: runs a LeRobot policy on one robot at a fixed rate and records every episode."""

__version__ = "0.1.0"
