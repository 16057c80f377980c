// Makes the page one that can be opened without a network: registers the worker, and keeps what this first visit has
// loaded before there was one.

const CACHE = 'lesson-studio';
const KEPT = new Set(['script', 'link', 'img', 'other']); // not what was fetched: those are questions

export async function offline() {
  if (!navigator.serviceWorker) return; // no secure context
  try {
    await navigator.serviceWorker.register('/worker.js', { type: 'module' });
    if (navigator.serviceWorker.controller) return; // it keeps what it passes on
    const loaded = performance.getEntriesByType('resource').filter(({ initiatorType }) => KEPT.has(initiatorType));
    const files = loaded.map(({ name }) => new URL(name)).filter(({ origin }) => origin === location.origin);
    const cache = await caches.open(CACHE);
    await cache.addAll(['/', ...new Set(files.map(({ pathname }) => pathname))]);
  } catch { /* a browser without module workers, or without room: the page needs the network, as any */ }
}
