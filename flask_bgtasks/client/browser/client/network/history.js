// A task's events from the backend, for whoever missed some: a page of them, and what a task looks like besides.

import { listOf, pathOf } from '../ids.js';
import { TERMINAL } from '../records.js';
import { kind } from '../view.js';

/** The events after this number, as many as the backend has; none where it is unreachable. */
export async function history(http, requestId, after) {
  let page;
  try {
    page = await http.json(`${pathOf(requestId, 'events')}?starting_after=${after}`, { headers: { Accept: 'application/json' } });
  } catch {
    return [];
  }
  if (!Array.isArray(page?.events)) return []; // not the backend's
  // After a retry the history holds earlier ends too: only the newest event can be the end.
  const isLast = ({ seq }) => page.done && seq === page.seq;
  // Whether this end is the last one is not known: the page was made while it came. The next page, or the status, says.
  const newest = page.events.at(-1);
  const unsure = newest && TERMINAL.has(newest.type) && newest.seq >= page.seq && !isLast(newest);
  const events = (unsure ? page.events.slice(0, -1) : page.events).map((data) => ({
    type: kind(data.type, { last: isLast(data) }),
    name: data.type, seq: data.seq, attempt: data.attempt ?? 0, data,
  }));
  if (!page.trimmed || !events.length) return events;
  const brief = await http.json(`?ids=${listOf([requestId])}`).then(({ tasks }) => tasks[0]).catch(() => null);
  return brief ? [snapshot(brief, events[0].seq - 1), ...events] : events;
}

/** Stands for the events that are no longer kept. */
function snapshot(brief, seq) {
  return { type: 'snapshot', name: 'snapshot', seq, attempt: brief.attempt, data: { ...brief, status: 'processing', done: false } };
}
