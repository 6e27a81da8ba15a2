"""Room `serving`."""
