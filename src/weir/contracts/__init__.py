"""What two rooms must agree on: names of topics and tables, endpoints, the path, feature views. Values only, no I/O."""
