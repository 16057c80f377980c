"""How a task runs: claimed, called, reported, ended, retried, and recovered when its process died."""
