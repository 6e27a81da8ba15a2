"""The local stack: every service under one supervisor, started by readiness, watched, restarted, and ended whole."""
