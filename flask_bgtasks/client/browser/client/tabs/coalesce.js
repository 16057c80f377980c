// Work that may be asked for while it is being done.

/** Calls that come while `work` runs share one more run, which begins when that one has ended. */
export function coalesced(work) {
  let running = Promise.resolve();
  let next = null;
  const begin = () => {
    next = null;
    running = work();
    return running;
  };
  return () => (next ??= running.then(begin, begin));
}
