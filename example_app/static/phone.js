// The panel “Phone”: the pushes that would have reached this browser's phone, where the demo has no Firebase.
// The server keeps them by a token that stands for the phone; it is made here once, and sent with each text.

import { $, ago, clock, make, write } from './dom.js';

const ASK_EVERY = 3_000;

let token = null;

/** What names this browser's phone: of this page only, where nothing may be stored. */
export function phoneToken() {
  token ??= `demo-${crypto.randomUUID()}`;
  try {
    token = localStorage.getItem('lesson-phone') ?? token;
    localStorage.setItem('lesson-phone', token);
  } catch { /* blocked, or full */ }
  return token;
}

export function phone(bg) {
  let known = null;
  const look = async () => {
    tick();
    if (document.hidden || bg.channel === 'offline' || bg.channel === 'monitor') return;
    const query = new URLSearchParams({ token: phoneToken(), lang: navigator.language });
    const answer = await fetch(`/phone?${query}`).catch(() => null);
    if (!answer?.ok) return;
    const { messages } = await answer.json();
    const changed = JSON.stringify(messages) !== known;
    known = JSON.stringify(messages);
    if (changed) show(messages);
    for (const time of $('messages').querySelectorAll('time')) write(time, ago(Date.parse(time.dateTime)));
  };
  setInterval(look, ASK_EVERY);
  for (const type of ['settled', 'channel']) bg.addEventListener(type, look);
  document.addEventListener('visibilitychange', look);
  look();
}

function show(messages) {
  $('messages').replaceChildren(...messages.map(message));
  $('messages-none').hidden = messages.length > 0;
  $('phone-count').hidden = !messages.length;
  write($('phone-count'), String(messages.length));
}

function message({ title, body, link, at }) {
  const there = URL.canParse(link ?? '/', location.href) ? new URL(link ?? '/', location.href) : null;
  const opens = make('a', { href: there?.origin === location.origin ? there.href : '/' },
    make('img', { src: '/static/icon.svg', alt: '', width: 32, height: 32 }),
    make('span', { className: 'from' }, 'Lesson studio'),
    make('time', { dateTime: at }, ago(Date.parse(at))),
    make('strong', {}, title),
    make('span', { className: 'body' }, body));
  opens.dataset.go = '';
  return make('li', {}, opens);
}

function tick() {
  const now = new Date();
  write($('clock-time'), clock(now));
  write($('clock-day'), now.toLocaleDateString('en-GB', { weekday: 'long', day: 'numeric', month: 'long' }));
}
