// When a page wakes, and when it goes to sleep, over all the events in which browsers say so.
// Sources: developer.chrome.com "Page Lifecycle API"; Safari and Firefox know neither freeze nor resume.

const DEBOUNCE = 300; // one wake-up is told by up to four events

/** Whether the user looks at this page. */
export function visible() {
  return document.visibilityState === 'visible';
}

/**
 * Watch this page. Returns what ends the watch.
 *
 * @param wake called with the reason, once for what comes together.
 * @param hide called when the page is no longer looked at. It may be about to be left: nothing may be written in it.
 * @param sleep called with the reason when the page is hidden for `sleepAfter`, frozen, or left.
 * @param offline called when the browser knows that there is no network.
 */
export function watchPage({ wake, hide, sleep, offline, sleepAfter }) {
  let waking = null;
  let falling = null;
  const on = [];
  const listen = (target, type, react) => {
    target?.addEventListener(type, react);
    on.push(() => target?.removeEventListener(type, react));
  };
  const woken = (why) => {
    clearTimeout(waking);
    waking = setTimeout(() => wake(why), DEBOUNCE);
  };
  const asleep = (why) => {
    clearTimeout(falling);
    sleep(why);
  };
  listen(document, 'visibilitychange', () => {
    clearTimeout(falling);
    if (visible()) return woken('visible');
    hide();
    falling = setTimeout(() => asleep('hidden'), sleepAfter);
  });
  listen(document, 'freeze', () => asleep('frozen'));
  listen(document, 'resume', () => woken('resumed'));
  listen(window, 'pagehide', () => asleep('left'));
  listen(window, 'pageshow', ({ persisted }) => { if (persisted) woken('back'); });
  listen(window, 'online', () => woken('online')); // "try now", never "it works"
  listen(window, 'offline', offline); // this one can be believed
  listen(window, 'focus', () => woken('focus'));
  return () => {
    clearTimeout(waking);
    clearTimeout(falling);
    for (const stop of on) stop();
  };
}
