"""What a policy takes on this machine: memory and time, and whether that is enough for the robot's settings."""
