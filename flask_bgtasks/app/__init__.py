"""One app's parts, wired: what was declared, what its settings make of it, and their life in one process."""
