"""How a task runs: claimed, called, reported, ended, tried again, and found again when its process died."""
