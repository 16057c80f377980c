"""Plugins that are told about changes. Never an authority: they cannot refuse, and they cannot hurt a task."""
