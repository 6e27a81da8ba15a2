"""Room `cost`."""
