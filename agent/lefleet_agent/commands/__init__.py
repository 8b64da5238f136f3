"""Commands of `lefleet-agent` that are more than a few lines; `__main__` takes them in."""
