"""LeFleet's server: collects a robot fleet's episodes and health, and shows them."""

__version__ = "0.1.0"
