"""The check for drift that a timer runs: its units, and what becomes of a result."""
