"""The authority on tasks: one protocol, and what keeps it (memory, SQL). Stores know the model and nothing else."""
