"""The changes of a task, their results and their history: each change is a value that is applied to a task.

Pure: no I/O, no Flask, no clock; the caller passes the time. Every store applies these changes, so each rule is here
once, including that no text or number of an app can keep a change from being stored. Knows the model and the errors.
"""
