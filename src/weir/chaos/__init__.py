"""Room `chaos`."""
