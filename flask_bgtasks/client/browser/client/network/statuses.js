// Asks the backend how tasks stand, as many of them as there are.

import { Refused, Unreachable } from './http.js';
import { listOf } from '../ids.js';
import { sideBySide } from './probe.js';

export const MAX_IDS = 80; // in one address: 37 characters each, and gunicorn takes lines of 4,094

/**
 * The answers for these tasks, some at a time: `{tasks, missing, expired}`. Where nobody is logged in who should be
 * (`expired`), the backend does not know whose they are: none is missing for that. `probe`: how to ask, see probe.js.
 */
export async function* statuses(http, ids, { signal, probe } = {}) {
  for (let at = 0; at < ids.length; at += MAX_IDS) {
    const asked = ids.slice(at, at + MAX_IDS);
    const ask = (until) => http.json(`?ids=${listOf(asked)}`, { signal: until });
    const answer = await (probe ? sideBySide(ask, probe, signal) : ask(signal));
    if (!Array.isArray(answer?.tasks) || !Array.isArray(answer.missing)) throw new Unreachable('?ids=: this JSON is not the backend\'s');
    const missing = asked.filter((id) => answer.missing.includes(id)); // of no other ones does it say anything
    const expired = answer.anonymous && missing.length > 0;
    yield { tasks: answer.tasks.filter((brief) => asked.includes(brief?.request_id)), missing: expired ? [] : missing, expired };
  }
}

/** As `statuses`; a login that has expired is refused like any other. */
export async function* askAll(http, ids, options) {
  for await (const found of statuses(http, ids, options)) {
    if (found.expired) throw new Refused(401, {}, null);
    yield found;
  }
}

/** What the answer to a poll tells of a task. */
export function sightingOf({ request_id, status, seq, attempt, progress, error_message }) {
  return { request_id, status, seq, attempt, progress, error_message };
}
