"""`lefleet`: a fleet from the command line, over the HTTP API alone."""
