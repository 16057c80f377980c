"""One app's parts: its declarations, the objects built from its settings, and their lifecycle in one process."""
