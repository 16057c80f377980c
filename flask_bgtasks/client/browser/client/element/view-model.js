// What <bg-task> shows of a task, as plain values: the words of each line, the steps, the buttons. Pure: it knows no
// element and no network, so that every state of a task can be looked at in a test.

const ENDS = new Set(['completed', 'failed', 'cancelled', 'rejected', 'gone']);
const MIN_SECONDS = 0.05; // what is shorter took no time
const UNSENT = new Set(['queued', 'rejected']);

/** Whether nothing more is to come. */
export const isOver = (status) => ENDS.has(status);

/**
 * @param view the task's, as client.d.ts has it.
 * @param context `{channel, online, tries, refusal, kept, names, texts, lang}`: how the client follows, whether the
 *   device says that it has a network, how often sending was tried, what the server said to that, and in how many
 *   `seconds` it is tried again, where tasks are kept, the names of the steps to come, and what to say in which language.
 */
export function describe(view, { channel, online, tries, refusal = null, kept = 'device', names, texts, lang }) {
  const { status, progress } = view;
  const over = isOver(status);
  const shown = over ? status : view.cancelling ? 'cancelling' : view.retrying ? 'retrying' : status;
  const steps = stepRows(view, names, texts, lang);
  const at = steps[(progress?.step_number || 1) - 1];
  const badge = over ? '' : badgeOf(status, { channel, online, tries, refusal }, texts, lang);
  const title = texts.status[shown] ?? texts.status.processing;
  const error = errorOf(view, texts);
  return {
    status: shown,
    over,
    title,
    subtitle: subtitleOf(view, kept, texts, lang),
    percentage: status === 'completed' ? 100 : Math.max(0, Math.min(100, view.percentage || 0)),
    unsent: UNSENT.has(status),
    details: detailsOf(view, steps, texts, lang),
    eta: over || badge || !progress?.eta_seconds ? '' : texts.left(duration(progress.eta_seconds, lang)),
    badge,
    steps,
    error,
    spoken: over
      ? [title, error].filter(Boolean).join('. ')
      : [badge, progress?.step ? placeOf(progress, at, texts, lang) : title].filter(Boolean).join('. '),
    canCancel: !over && status !== 'queued',
    canRetry: status === 'failed' || status === 'cancelled',
  };
}

/** Seconds as people say them: `12 sec`, `3 min`. */
export function duration(seconds, lang) {
  const whole = Math.max(1, Math.round(seconds));
  const [value, unit] = whole < 90 ? [whole, 'second'] : [Math.round(whole / 60), 'minute'];
  return new Intl.NumberFormat(lang, { style: 'unit', unit, unitDisplay: 'short' }).format(value);
}

/** A part of a hundred, without decimals. */
export function percent(percentage, lang) {
  return new Intl.NumberFormat(lang, { style: 'percent' }).format(Math.floor(percentage) / 100);
}

function number(value, lang) {
  return new Intl.NumberFormat(lang).format(value);
}

// One row for each step that there is or is to come, by its number; what has none of its own goes by its place.
function stepRows(view, names, texts, lang) {
  const over = isOver(view.status);
  const told = new Map(view.steps.map((step, index) => [step.number ?? index + 1, step]));
  const count = Math.max(names.length, view.progress?.total_steps ?? 0, ...told.keys());
  return Array.from({ length: count }, (_, index) => {
    const step = told.get(index + 1);
    let state = step?.state ?? 'waiting';
    if (view.status === 'completed') state = 'done';
    else if (state === 'running' && over) state = 'stopped';
    return {
      name: step?.name ?? names[index] ?? texts.step.unnamed(number(index + 1, lang)),
      state,
      time: step ? timeOf({ ...step, state }, texts, lang) : '',
    };
  });
}

function timeOf({ state, restored, seconds }, texts, lang) {
  if (restored) return texts.step.kept;
  return state === 'done' && seconds >= MIN_SECONDS ? exact(seconds, lang) : '';
}

// A step's time, short enough to stand beside its name: `0.4s`, `12s`, `3m`.
function exact(seconds, lang) {
  const [value, unit] = seconds < 90 ? [seconds, 'second'] : [seconds / 60, 'minute'];
  const digits = value < 10 && unit === 'second' ? 1 : 0;
  return new Intl.NumberFormat(lang, {
    style: 'unit', unit, unitDisplay: 'narrow', minimumFractionDigits: digits, maximumFractionDigits: digits,
  }).format(value);
}

function subtitleOf({ status, progress, attempt }, kept, texts, lang) {
  const place = isOver(status) || !progress?.step ? '' : placeOf(progress, null, texts, lang);
  return [status === 'queued' ? texts[kept === 'memory' ? 'unstored' : 'stored'] : place, attempt > 1 ? texts.resumed(number(attempt, lang)) : ''].filter(Boolean).join(' · ');
}

function tookOf(view, steps, texts, lang) {
  const seconds = view.steps.reduce((sum, step) => sum + (step.restored ? 0 : step.seconds ?? 0), 0);
  return steps.length && seconds ? texts.took(number(steps.length, lang), duration(seconds, lang)) : '';
}

// Where the task is: `Step 3 of 8`, with the step's name where one is given.
function placeOf(progress, step, texts, lang) {
  const { step_number, total_steps } = progress;
  if (!step_number || !total_steps) return progress.step ?? '';
  const place = [number(step_number, lang), number(total_steps, lang)];
  return step ? texts.atNamed(...place, progress.step) : texts.at(...place);
}

function detailsOf(view, steps, texts, lang) {
  const { status, retrying, progress } = view;
  if (status === 'completed') return tookOf(view, steps, texts, lang);
  if (isOver(status)) return progress?.step ? texts.stoppedAt(progress.step) : '';
  if (retrying?.seconds) return texts.again(duration(retrying.seconds, lang));
  return progress?.details ?? '';
}

function badgeOf(status, { channel, online, tries, refusal }, texts, lang) {
  const unreached = channel === 'offline' || channel === 'monitor' || !online;
  if (status === 'queued' && refusal) {
    const why = refusal.detail ?? refusal.title;
    return texts.channel.refused(/[.!?]$/.test(why) ? why : `${why}.`, duration(refusal.seconds, lang));
  }
  if (status === 'queued') return texts.channel[unreached ? 'waiting' : tries > 1 ? 'resending' : 'sending'];
  if (channel === 'blocked') return texts.channel.blocked;
  if (channel === 'monitor' || channel === 'busy') return texts.channel[channel];
  if (!online) return texts.channel.offline;
  if (channel === 'offline') return texts.channel.reconnecting;
  return channel === 'poll' ? texts.channel.poll : '';
}

function errorOf({ status, error, retrying }, texts) {
  if (status === 'failed') return error || texts.failed;
  if (status === 'rejected') return error || texts.rejected;
  if (status === 'gone') return error || texts.gone;
  return retrying?.error_message ?? '';
}
