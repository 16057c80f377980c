"""Calls at the same time."""

import threading


def together(count, call):
    """Run ``call(n)`` in so many threads at once; what each returned or raised."""
    barrier, results = threading.Barrier(count), [None] * count

    def run(n):
        barrier.wait(10)
        try:
            results[n] = call(n)
        except Exception as error:
            results[n] = error

    threads = [threading.Thread(target=run, args=(n,)) for n in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    return results
