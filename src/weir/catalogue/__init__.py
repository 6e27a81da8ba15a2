"""Room `catalogue`."""
