"""From scans to refined masks: what the command line and the Python interface both call."""
