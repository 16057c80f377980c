// The few things that every part of the page does with the document: finding and making elements, and saying when
// something was.

export const $ = (id) => document.getElementById(id);

export function make(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

/** The address of a task's lesson. */
export function addressOf(requestId) {
  return `?task=${encodeURIComponent(requestId)}`;
}

/** Change a text, if it is another one. */
export function write(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

const RELATIVE = new Intl.RelativeTimeFormat('en', { numeric: 'auto', style: 'short' });
const UNITS = [['day', 86_400_000], ['hour', 3_600_000], ['minute', 60_000]];

/** When something was, as people say it: `now`, `5 min. ago`, `yesterday`. */
export function ago(milliseconds, now = Date.now()) {
  const passed = now - milliseconds;
  const [unit, size] = UNITS.find(([, length]) => passed >= length) ?? [];
  return unit ? RELATIVE.format(-Math.floor(passed / size), unit) : 'now';
}

/** The time of day: `14:05`, with seconds `14:05:09`. */
export function clock(date, { seconds = false } = {}) {
  return date.toLocaleTimeString('en-GB', { hour: '2-digit', minute: '2-digit', ...(seconds && { second: '2-digit' }) });
}

export function plural(count, one, many) {
  return `${count.toLocaleString('en')} ${count === 1 ? one : many}`;
}
