"""What a run's clients saw: what they were answered, and what streams showed them."""

import threading
from collections import Counter, defaultdict


class Journal:
    """Written by many threads; read when they are done.

    `accepted`: by the client's key, the ids that it was answered. `doubtful`: those that may have been stored, or not.
    `owners`: by id, whose task it is, if it is to be followed.
    `refused`: keys of requests that were answered that nothing was changed, and that were not sent again.
    `shown`: by id and event number, the (type, attempt, time) of every event that a stream showed under it.
    `wrong`: sentences: what was wrong at once. `answers`: how many of each status.
    """

    def __init__(self, accepted=None):
        self._lock = threading.Lock()  # protects everything here
        self.accepted = defaultdict(list, accepted or {})
        self.doubtful = defaultdict(set)
        self.owners = {}
        self.refused = set()
        self.shown = defaultdict(set)
        self.wrong = []
        self.answers = Counter()

    def accept(self, key, request_id, owner):
        with self._lock:
            self.accepted[key].append(request_id)
            if owner is not None:
                self.owners[request_id] = owner

    def doubt(self, key, request_id):
        with self._lock:
            self.doubtful[key].add(request_id)

    def refuse(self, key):
        with self._lock:
            self.refused.add(key)

    def count(self, answer):
        with self._lock:
            self.answers[answer] += 1

    def complain(self, sentence):
        with self._lock:
            self.wrong.append(sentence)

    def show(self, request_id, seq, *seen):
        with self._lock:
            self.shown[request_id, seq].add(seen)

    def newest(self, count):
        """The ids of so many that were accepted last."""
        with self._lock:
            return list(self.owners)[-count:]

    def some_task(self, luck):
        """One of the newest that were accepted, and its owner; None while there is none."""
        newest = self.newest(5)
        if not newest:
            return None
        request_id = luck.choice(newest)
        return request_id, self.owners[request_id]
