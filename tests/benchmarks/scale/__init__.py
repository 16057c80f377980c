"""How figures grow with processes, with what is stored, and with streams; and how many writes a task is."""
