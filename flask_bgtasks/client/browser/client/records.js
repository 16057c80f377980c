// What is kept of a task on this device, and how it may change. Pure: no clock, no network, no storage.
// Every change is a function from a record to the next one; null means that nothing changes.

export const TERMINAL = new Set(['completed', 'failed', 'cancelled']);
export const PENDING = new Set(['queued', 'sending', 'following', 'settled', 'blocked']);

export const KEPT_DAYS = 7; // that an unsent submission waits: the server keeps keys at least as long
const DAY = 86_400_000;
const MAX_RECORDS = 200;
const MISSING_FOR = 30_000; // milliseconds

/** A submission that was not sent yet. */
export function submission(key, request, { now, owner = null, label = null }) {
  return { ...blank(key, now), ...request, owner, label, state: 'queued', expires_at: now + KEPT_DAYS * DAY };
}

/** A task that is known by its id only. */
export function known(requestId, { now, owner = null, label = null }) {
  return { ...blank(`id:${requestId}`, now), request_id: requestId, owner, label, state: 'following' };
}

function blank(key, now) {
  return {
    key, url: null, method: 'POST', headers: {}, body: null, body_hash: null, request_id: null, owner: null, label: null,
    state: 'following', status: null, seq: 0, attempt: 0, progress: null, cursor: 0, created_at: now, changed_at: now,
    tries: 0, next_try_at: 0, doubt: null, refusal: null, settled_seq: 0, announced_seq: 0, announced_visibly: false, acked_seq: 0, provisional: null,
    via: null, error: null, missing: 0, hidden: false, expires_at: now + KEPT_DAYS * DAY,
  };
}

/** Before it goes out; a crash on the way leaves `sending`, which is sent again with the same key. */
export function sending(record, now) {
  if (!['queued', 'sending'].includes(record.state)) return null;
  return { ...record, state: 'sending', tries: record.tries + 1, changed_at: now };
}

/** The server has it. The body is no longer needed. `other`: a record of the same task, made when a push told of it. */
export function accepted(record, requestId, now, other = null) {
  if (record.request_id) return null;
  if (record.hidden) return { ...record, request_id: requestId, body: null, headers: {} }; // removed on its way
  const { key, url, label, owner, created_at } = record;
  const from = other && { ...other, key, url, label, owner, created_at };
  return { ...(from ?? { ...record, state: 'following' }), request_id: requestId, body: null, headers: {}, doubt: null, refusal: null, changed_at: now };
}

/**
 * It did not get through; `at`: when it is tried again. `refusal`: what a server said that cannot take it now, and
 * `since` when it has said so; null where nobody answered.
 */
export function postponed(record, at, now, refusal = null) {
  return record.state === 'sending' ? { ...record, state: 'queued', next_try_at: at, refusal, changed_at: now } : null;
}

/** Something answered that does not look like the backend; `doubt`: what, and `since` when. */
export function doubted(record, doubt, at, now) {
  const next = postponed(record, at, now);
  return next && { ...next, doubt };
}

export function blocked(record, now) {
  return record.state === 'sending' ? { ...record, state: 'blocked', changed_at: now } : null;
}

/** There may be new credentials. */
export function unblocked(record, now) {
  return record.state === 'blocked' ? { ...record, state: 'queued', next_try_at: 0, changed_at: now } : null;
}

export function rejected(record, problem, now) {
  if (!['queued', 'sending', 'blocked'].includes(record.state)) return null;
  return { ...record, state: 'rejected', error: problem, body: null, headers: {}, changed_at: now };
}

/**
 * The backend does not know it. Twice, half a minute apart, and it is believed: a store that is restored, or another
 * app's answer at the same address during a deploy, is over by then.
 */
export function missed(record, now) {
  if (record.state !== 'following') return null;
  const since = now - record.missing;
  if (!record.missing || since < 0) return { ...record, missing: now };
  if (since < MISSING_FOR) return null;
  if (record.taken_over) return dropped(record, now); // of another app on this origin
  const error = { title: 'Task not found', status: 404, detail: 'The server does not have this task any more.' };
  return { ...record, state: 'gone', error, changed_at: now };
}

/** What was seen of a running task. Attempt and number only grow, and a percentage never falls. */
export function progressed(record, sighting, now) {
  if (record.state !== 'following' || sighting.attempt < record.attempt) return null;
  if (sighting.seq <= record.seq) return record.missing ? { ...record, missing: 0 } : null;
  return {
    ...record, missing: 0, changed_at: now, status: sighting.status ?? record.status, seq: sighting.seq,
    attempt: sighting.attempt, progress: furthest(record.progress, sighting.progress),
  };
}

/** The event up to which a stream has been read. */
export function read(record, seq) {
  return seq > record.cursor ? { ...record, cursor: seq } : null;
}

/**
 * An outcome was seen: the only way to one. Null where it was known before.
 *
 * A sighting without a number (an old mirror) counts as provisional for its attempt: the number that comes later by
 * another way belongs to the same outcome.
 */
export function settled(record, sighting, now) {
  if (!TERMINAL.has(sighting.status) || record.hidden || ['rejected', 'gone'].includes(record.state)) return null;
  const { status, attempt, via } = sighting;
  const numbered = Number.isInteger(sighting.seq);
  if (record.provisional !== null && record.provisional === attempt) {
    return numbered ? { ...record, provisional: null, ...numbers(record, sighting.seq) } : null;
  }
  const seq = numbered ? sighting.seq : Math.floor(Math.max(record.seq, record.settled_seq)) + 0.5;
  if (seq <= record.settled_seq || (record.state !== 'following' && !numbered)) return null;
  return {
    ...record, state: 'settled', status, attempt, via, settled_seq: seq, seq: Math.max(record.seq, seq), missing: 0,
    provisional: numbered ? null : attempt, progress: furthest(record.progress, sighting.progress), changed_at: now,
    error: status === 'failed' ? { title: 'The task failed', detail: sighting.error_message ?? null } : null,
  };
}

/** A provisional number becomes the real one wherever it stands. */
function numbers(record, seq) {
  const old = record.settled_seq;
  const real = (value) => (value === old ? seq : value);
  return {
    settled_seq: seq, announced_seq: real(record.announced_seq), acked_seq: real(record.acked_seq),
    seq: Math.max(Math.floor(record.seq), seq),
  };
}

/** The user was told of the outcome with this number; `visibly`: by a page that was looked at. */
export function announced(record, seq, now, { visibly = false } = {}) {
  if (record.state !== 'settled' || record.settled_seq !== seq) return null;
  return { ...record, state: 'announced', announced_seq: seq, announced_visibly: visibly, changed_at: now };
}

/** The server knows that the user was told. */
export function acked(record, seq, now) {
  if (record.state !== 'announced' || record.announced_seq !== seq) return null;
  return { ...record, state: 'acked', acked_seq: seq, changed_at: now };
}

/** The server runs it again: another outcome will come, with a larger number. */
export function reopened(record, now) {
  const over = ['settled', 'announced', 'acked'].includes(record.state);
  return over ? { ...record, state: 'following', status: 'processing', error: null, changed_at: now } : null;
}

/** Follow it no longer, and show it no more. It stays for a while, so that a late push brings no news of it. */
export function dropped(record, now) {
  return { ...record, state: 'acked', hidden: true, body: null, changed_at: now };
}

/**
 * The keys of those that need not be kept: over for a day, or the oldest that are over beyond 200. What the server was
 * not told yet is kept for a week.
 */
export function prunable(records, now) {
  const unreported = ({ state, changed_at: since }) => state === 'announced' && now - since < KEPT_DAYS * DAY;
  const over = records.filter((record) => !PENDING.has(record.state) && !unreported(record));
  over.sort((a, b) => b.changed_at - a.changed_at);
  const room = Math.max(0, MAX_RECORDS - (records.length - over.length));
  return over.filter((record, index) => index >= room || now - record.changed_at > DAY).map(({ key }) => key);
}

/** The newer progress, with the larger percentage. */
export function furthest(old, fresh) {
  if (!fresh || fresh.progress_percentage === undefined) return old;
  const percentage = Math.max(old?.progress_percentage ?? 0, fresh.progress_percentage ?? 0);
  return { ...old, ...fresh, progress_percentage: percentage };
}
