"""Which tasks were declared, and which of them belong to which app."""
