// The panel “Connection”: how this browser follows its tasks at the moment, and what was lost and came back.
// Everything here comes from two events of the client, `channel` and `recovered`.

import { $, clock, make, write } from './dom.js';

const CHANNELS = {
  idle: ['idle', 'Nothing is running.'],
  stream: ['live', 'One stream, shared by all tabs.'],
  poll: ['asking', 'No stream gets through: the page polls the status every second.'],
  monitor: ['Firestore', 'The server is unreachable: the page reads its mirror in Firestore every 30 seconds.'],
  offline: ['offline', 'Nothing is reachable. The page keeps trying, and stores what you send meanwhile.'],
  busy: ['busy', 'The server answers, but cannot do it now. The page asks again when the server wants it to.'],
  asleep: ['asleep', 'The page is hidden, and asks nothing until you are back.'],
  blocked: ['login', 'The server requires a login.'],
};
const HOW = {
  reopened: 'Found again:', sent: 'Sent:', reconnected: 'Back:', firestore: 'By Firestore:', discovered: 'Discovered:',
};
const LINES = 8;

export function connection(bg) {
  show(bg.channel);
  for (const type of ['online', 'offline']) addEventListener(type, () => show(bg.channel));
  bg.addEventListener('channel', ({ detail }) => {
    show(detail.to);
    if (isLost(detail.to) && !isLost(detail.from)) log('lost', 'Lost:', detail.why);
  });
  bg.addEventListener('recovered', ({ detail }) => log('recovered', HOW[detail.how] ?? detail.how, sentence(detail)));
}

function show(followed) {
  // With nothing to follow the client asks for nothing: then the device says whether there is a network.
  const channel = followed === 'idle' && !navigator.onLine ? 'offline' : followed;
  const [name, says] = CHANNELS[channel] ?? [channel, ''];
  for (const id of ['pill', 'channel']) $(id).dataset.channel = channel;
  write($('pill-text'), name);
  write($('channel-name'), name);
  write($('channel-says'), says);
}

function log(kind, name, words) {
  const line = make('li', {},
    make('time', {}, clock(new Date(), { seconds: true })),
    make('span', {}, make('strong', {}, name), words ? ` ${words}` : ''));
  line.dataset.kind = kind;
  $('log').prepend(line);
  while ($('log').children.length > LINES) $('log').lastElementChild.remove();
  $('log-none').hidden = true;
}

function sentence({ detail, after }) {
  return [detail, after === null ? '' : `(after ${duration(after)})`].filter(Boolean).join(' ');
}

function duration(milliseconds) {
  const seconds = Math.max(1, Math.round(milliseconds / 1000));
  return seconds < 90 ? `${seconds} s` : `${Math.round(seconds / 60)} min`;
}

function isLost(channel) {
  return channel === 'offline' || channel === 'monitor';
}
