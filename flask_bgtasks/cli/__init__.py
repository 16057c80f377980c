"""flask bgtasks …: a look at the work from the shell, and the worker process."""
