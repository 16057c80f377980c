"""What makes a task's run happen somewhere, at least once: one protocol, and who keeps it (threads, inline)."""
