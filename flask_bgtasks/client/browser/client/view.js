// What a page shows of a task, put together from its events. Pure: each event makes a new view of the last one.

import { TERMINAL, furthest } from './records.js';

const KINDS = {
  progress: 'progress', step_started: 'step', step_finished: 'step', output: 'output', snapshot: 'snapshot',
};

/** The coarse kind of a server's event; see TaskEvent in client.d.ts. `last`: no other event follows it. */
export function kind(name, { last = false } = {}) {
  return TERMINAL.has(name) && last ? 'terminal' : KINDS[name] ?? 'state';
}

/** What a record says before any event has come. */
export function viewOf(record) {
  const over = record.state === 'rejected' || record.state === 'gone';
  return {
    status: over ? record.state : record.request_id ? record.status ?? 'started' : 'queued',
    seq: 0, attempt: record.attempt, progress: record.progress,
    percentage: record.status === 'completed' ? 100 : record.progress?.progress_percentage ?? 0,
    steps: [], output: '', chunks: [], cancelling: false, retrying: null,
    error: record.error ? record.error.detail ?? record.error.title ?? null : null,
  };
}

/** The view with this event in it. */
export function fold(view, { type, name, seq, attempt, data }) {
  const base = attempt > view.attempt && view.attempt > 0 ? { ...view, ...ANEW } : view;
  const next = { ...base, seq: Math.max(base.seq, seq), attempt: Math.max(base.attempt, attempt) };
  if (type === 'terminal') return ended(next, name, data);
  if (name === 'progress') return advanced(next, data);
  if (type === 'step') return { ...next, steps: stepped(next.steps, name, data) };
  if (type === 'output') return { ...next, ...added(next, data) };
  if (type === 'snapshot') {
    const shown = data.progress ? advanced(next, { ...data.progress, status: data.status }) : { ...next, status: data.status };
    return { ...shown, cancelling: Boolean(data.cancel_requested_at) && !data.done };
  }
  return changed(next, name, data);
}

// An attempt goes through the steps and writes its output anew; what was stored comes back at once.
const ANEW = { steps: [], output: '', chunks: [], retrying: null };

function changed(view, name, data) {
  if (name === 'started') return { ...view, status: 'processing', retrying: null, error: null };
  if (name === 'retrying') return { ...advanced(view, data), status: 'processing', retrying: data };
  if (name === 'released') return advanced(view, data);
  if (name === 'cancel_requested') return { ...view, cancelling: true };
  if (name === 'reopened') return { ...view, ...ANEW, status: 'started', cancelling: false, error: null };
  return view;
}

function ended(view, status, data) {
  const percentage = status === 'completed' ? 100 : view.percentage;
  const steps = view.steps.map((step) => (step.state === 'running' ? { ...step, state: status === 'completed' ? 'done' : 'failed' } : step));
  return { ...view, status, steps, percentage, cancelling: false, retrying: null, error: data.error_message ?? null };
}

function advanced(view, data) {
  const progress = furthest(view.progress, pick(data));
  return {
    ...view, progress, percentage: Math.max(view.percentage, progress?.progress_percentage ?? 0),
    status: TERMINAL.has(data.status) ? view.status : data.status ?? 'processing',
  };
}

const FIELDS = ['step', 'step_number', 'total_steps', 'details', 'progress_percentage', 'status', 'last_updated', 'eta_seconds'];

function pick(data) {
  return Object.fromEntries(FIELDS.filter((field) => field in data).map((field) => [field, data[field]]));
}

/** Steps of the first level, in the order in which they began; one that begins again takes its old place. */
function stepped(steps, name, data) {
  if (data.path && data.path.length > 1) return steps;
  const state = name === 'step_started' ? 'running' : data.failed ? 'failed' : 'done';
  const step = {
    name: data.step, number: data.step_number ?? null, state, details: data.details ?? null,
    seconds: data.seconds ?? null, restored: Boolean(data.restored),
  };
  const at = steps.findLastIndex((known) => known.name === step.name && known.number === step.number);
  return at < 0 ? [...steps, step] : steps.with(at, step);
}

function added(view, { offset, chunks }) {
  const fresh = chunks.slice(Math.max(0, view.chunks.length - offset)); // those that were not told yet
  if (!fresh.length) return {};
  const text = fresh.every((chunk) => typeof chunk === 'string') ? fresh.join('') : '';
  return { chunks: [...view.chunks, ...fresh], output: view.output + text };
}
