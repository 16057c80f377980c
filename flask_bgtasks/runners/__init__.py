"""Runners make a task run somewhere, at least once: one protocol, and its implementations."""
