"""Plugins that are told about changes. They have no authority: they cannot refuse a change or harm a task."""
