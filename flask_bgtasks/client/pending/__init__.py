"""What the client remembers of tasks that it waits for, across restarts."""
