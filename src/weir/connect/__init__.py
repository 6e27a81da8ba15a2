"""Room `connect`."""
