"""Room `gateway`."""
