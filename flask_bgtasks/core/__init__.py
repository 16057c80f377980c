"""Values and rules, without input or output: what a task is, how it may change, and how it is shown."""
