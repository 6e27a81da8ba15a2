"""Room `stack`."""
