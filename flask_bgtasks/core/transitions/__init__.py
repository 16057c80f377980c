"""What may change about a task, into what, and what history it leaves: each change a value, applied to a task.

Pure: no I/O, no Flask, no clock; a change is applied at a time that is given. Every store applies these same changes,
so a rule stands here once: also that no text and no number of an app's keeps a change from being stored. Knows the
model and the errors.
"""
