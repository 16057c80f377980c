"""Finding the tasks that may begin in this process: those that wait, and those that dead processes left."""
