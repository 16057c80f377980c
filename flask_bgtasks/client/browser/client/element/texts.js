// What <bg-task> says, in English and German. Another language is an object of the same shape in `TEXTS`;
// an element's `texts` property replaces single ones. Functions get numbers that are written in the language already.

const en = {
  name: 'Task',
  status: {
    queued: 'Waiting to be sent',
    started: 'Waiting to start',
    processing: 'At work',
    cancelling: 'Stopping …',
    retrying: 'Will try again',
    completed: 'Done',
    failed: 'Failed',
    cancelled: 'Cancelled',
    rejected: 'Not accepted',
    gone: 'No longer there',
  },
  step: {
    unnamed: (number) => `Step ${number}`,
    waiting: 'waiting',
    running: 'in progress',
    done: 'done',
    failed: 'failed',
    stopped: 'stopped',
    kept: 'kept',
  },
  at: (number, total) => `Step ${number} of ${total}`,
  atNamed: (number, total, name) => `Step ${number} of ${total}: ${name}`,
  stoppedAt: (name) => `Stopped at “${name}”`,
  took: (steps, duration) => `${steps} ${steps === '1' ? 'step' : 'steps'} in ${duration}`,
  left: (duration) => `about ${duration} left`,
  resumed: (attempt) => `resumed, attempt ${attempt}`,
  again: (duration) => `Trying again in ${duration}`,
  stored: 'Kept on this device until it can be sent',
  unstored: 'Nothing can be kept on this device: leave this page open until it is sent',
  failed: 'It ended with an error.',
  gone: 'The server does not keep this task any more.',
  rejected: 'The server did not accept the request.',
  channel: {
    sending: 'sending',
    resending: 'not through yet, sending again',
    waiting: 'waiting for the network',
    reconnecting: 'reconnecting',
    offline: 'offline',
    monitor: 'offline, asking Firestore',
    busy: 'the server is busy, asked again soon',
    refused: (why, duration) => `${why} Sent again in ${duration}`,
    poll: 'asking every second',
    blocked: 'please log in again',
  },
  steps: 'Steps',
  cancel: 'Cancel',
  cancelling: 'Cancelling …',
  retry: 'Try again',
};

const de = {
  name: 'Aufgabe',
  status: {
    queued: 'Noch nicht gesendet',
    started: 'Beginnt gleich',
    processing: 'In Arbeit',
    cancelling: 'Wird angehalten …',
    retrying: 'Neuer Versuch folgt',
    completed: 'Fertig',
    failed: 'Fehlgeschlagen',
    cancelled: 'Abgebrochen',
    rejected: 'Nicht angenommen',
    gone: 'Nicht mehr vorhanden',
  },
  step: {
    unnamed: (number) => `Schritt ${number}`,
    waiting: 'wartet',
    running: 'läuft',
    done: 'erledigt',
    failed: 'fehlgeschlagen',
    stopped: 'angehalten',
    kept: 'behalten',
  },
  at: (number, total) => `Schritt ${number} von ${total}`,
  atNamed: (number, total, name) => `Schritt ${number} von ${total}: ${name}`,
  stoppedAt: (name) => `Angehalten bei „${name}“`,
  took: (steps, duration) => `${steps} ${steps === '1' ? 'Schritt' : 'Schritte'} in ${duration}`,
  left: (duration) => `noch etwa ${duration}`,
  resumed: (attempt) => `fortgesetzt, Versuch ${attempt}`,
  again: (duration) => `Neuer Versuch in ${duration}`,
  stored: 'Liegt auf diesem Gerät, bis es gesendet werden kann',
  unstored: 'Auf diesem Gerät lässt sich nichts speichern: bitte die Seite offen lassen, bis es gesendet ist',
  failed: 'Es ist ein Fehler aufgetreten.',
  gone: 'Der Server bewahrt diese Aufgabe nicht mehr auf.',
  rejected: 'Der Server hat die Anfrage nicht angenommen.',
  channel: {
    sending: 'wird gesendet',
    resending: 'noch nicht durch, wird wieder gesendet',
    waiting: 'wartet auf das Netz',
    reconnecting: 'verbindet sich wieder',
    offline: 'ohne Verbindung',
    monitor: 'ohne Verbindung, fragt Firestore',
    busy: 'der Server ist überlastet und wird bald wieder gefragt',
    refused: (why, duration) => `${why} Neuer Versuch in ${duration}`,
    poll: 'fragt jede Sekunde nach',
    blocked: 'bitte neu anmelden',
  },
  steps: 'Schritte',
  cancel: 'Abbrechen',
  cancelling: 'Wird abgebrochen …',
  retry: 'Noch einmal',
};

/** By language tag. An app may add its own. */
export const TEXTS = { en, de };

/** The texts for a language, its own first: by the tag, then by ever less of it, then English. */
export function textsFor(lang, own = {}) {
  let found = lang;
  while (found && !Object.hasOwn(TEXTS, found)) found = found.slice(0, Math.max(0, found.lastIndexOf('-')));
  return merged(merged(en, TEXTS[found] ?? {}), own);
}

function merged(base, over) {
  const made = { ...base };
  for (const [name, value] of Object.entries(over)) {
    made[name] = isGroup(value) && isGroup(base[name]) ? merged(base[name], value) : value;
  }
  return made;
}

function isGroup(value) {
  return typeof value === 'object' && value !== null;
}
