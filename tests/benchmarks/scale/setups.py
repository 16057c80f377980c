"""The set-ups that are compared: a store, and whose workers run the tasks."""

from __future__ import annotations

from dataclasses import dataclass

APP_ID = "scale"
MODULE = f"{__package__}.app"
THREADS = 4


@dataclass(frozen=True)
class Setup:
    """One of them."""

    name: str
    store: str
    """``sqlite`` or ``postgresql``."""

    engine: str
    note: str

    def commands(self, processes: int, *, name: str, redis: str) -> list[list[str]]:
        """The command lines, after ``python -m``, of so many worker processes.

        :param name: of the queue. :param redis: its URL.
        """
        if self.engine == "celery":
            quiet = ["--without-mingle", "--without-gossip", "--loglevel", "WARNING"]
            return [["celery", "--app", f"{MODULE}:workers", "worker", "--concurrency", str(processes), *quiet]]
        if self.engine == "dramatiq":
            return [["dramatiq", MODULE, "--processes", str(processes), "--threads", str(THREADS)]]
        if self.engine == "rq":
            one = ["rq.cli", "worker", "--config", MODULE, "--url", redis, "--quiet", name]
        else:
            one = ["flask", "--app", f"{MODULE}:app", "bgtasks", "worker", "--workers", str(THREADS)]
        return [one] * processes


SETUPS = (
    Setup("SQLite", "sqlite", "external", "flask bgtasks worker, 4 threads in each process; synchronous=FULL"),
    Setup("PostgreSQL", "postgresql", "external", "flask bgtasks worker, 4 threads in each process"),
    Setup("PostgreSQL + Celery", "postgresql", "celery", "prefork: a task at a time in each process; Redis"),
    Setup("PostgreSQL + RQ", "postgresql", "rq", "rq worker, which forks for each job; Redis"),
    Setup("PostgreSQL + Dramatiq", "postgresql", "dramatiq", "4 threads in each process; Redis"),
)
