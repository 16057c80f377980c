"""Tasks in the memory of one process."""
