"""The pending tasks that the client remembers across restarts."""
