"""Room `quality`."""
