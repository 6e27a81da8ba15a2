"""The commands. They choose edges, print, and turn errors into one line and an exit code; they decide nothing."""
