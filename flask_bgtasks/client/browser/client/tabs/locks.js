// The browser's locks, where they are to be had. With cookies blocked each request for one is refused: then this page
// works without, as if it were the only one.

/** What `navigator.locks` does; null in a browser without. */
export function usableLocks() {
  const locks = globalThis.navigator?.locks;
  return locks ? { request: (name, options, work) => request(locks, name, options, work) } : null;
}

async function request(locks, name, options, work) {
  let begun = false;
  try {
    return await locks.request(name, options, (lock) => {
      begun = true;
      return work(lock);
    });
  } catch (error) {
    if (begun || error.name !== 'SecurityError') throw error;
    return work({ name, mode: 'exclusive' });
  }
}
