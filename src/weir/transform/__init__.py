"""Room `transform`."""
