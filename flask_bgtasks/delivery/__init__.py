"""The outbox's way out: who is told what, when, how often, and what happens when they cannot be reached."""
