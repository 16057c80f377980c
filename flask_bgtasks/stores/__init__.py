"""The authority on tasks: one protocol and its implementations. Stores know the model and nothing else."""
