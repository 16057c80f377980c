// The page without a network: its own files, and the lessons that were read on this device. The network comes first,
// what it gave last is kept for when there is none. The rest is the library's: pushes, and what waits to be sent.

import '/tasks/service-worker.js';

const CACHE = 'lesson-studio';
const MOST_LESSONS = 30;
const LESSON = /^\/tasks\/[^/]+\/result$/;
const FILE = /^\/static\/|^\/tasks\/(client\/([a-z]+\/)?)?[\w-]+\.js$/;

self.addEventListener('fetch', (event) => {
  const { method, mode, url } = event.request;
  const { origin, pathname } = new URL(url);
  if (method !== 'GET' || origin !== self.location.origin) return;
  const isPage = mode === 'navigate' && pathname === '/';
  if (isPage) event.respondWith(networkFirst(event.request, '/')); // one page, whatever lesson it shows
  else if (FILE.test(pathname) || LESSON.test(pathname)) event.respondWith(networkFirst(event.request, pathname));
});

async function networkFirst(request, key) {
  const cache = await caches.open(CACHE);
  try {
    const answer = await fetch(request);
    if (isServers(key, answer)) {
      if (answer.status === 200) await keep(cache, key, answer.clone());
      return answer;
    }
    return (await cache.match(key)) ?? answer;
  } catch (error) {
    const kept = await cache.match(key);
    if (!kept) throw error;
    return kept;
  }
}

/** Whether the server said this, as far as that can be told: of a lesson by its Task-Id. A hotel's page is no lesson. */
function isServers(key, { status, headers }) {
  if (!LESSON.test(key)) return status < 500;
  return headers.has('Task-Id') || /^application\/problem\+json/.test(headers.get('Content-Type') ?? '');
}

async function keep(cache, key, answer) {
  await cache.put(key, answer).catch(() => {}); // no room is no reason to show nothing
  if (!LESSON.test(key)) return;
  const lessons = (await cache.keys()).filter(({ url }) => LESSON.test(new URL(url).pathname));
  for (const old of lessons.slice(0, -MOST_LESSONS)) await cache.delete(old);
}
