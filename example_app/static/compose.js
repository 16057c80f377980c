// The form: a text goes in, a task comes out. The text is stored on this device before it is sent, so it may be sent
// off without a network.

import { $, plural, write } from './dom.js';

const REFUSED_WITHIN = 700; // what the server refuses at once is said in the form, and not on the lesson's page

/** @param opened called with the task that was made of the text. */
export function compose(bg, opened) {
  $('form').addEventListener('submit', async (event) => {
    event.preventDefault();
    refuse('');
    const text = $('text').value;
    if (!text.trim()) return refuse('There is no text yet. Paste a chapter or an article.');
    $('make').disabled = true;
    try {
      const task = await bg.submit('/process', { input_text: text }, { label: labelOf(text) });
      const refusal = await refusalOf(task);
      if (!refusal) return opened(task);
      await bg.remove(task.key);
      refuse(refusal);
    } finally {
      $('make').disabled = false;
    }
  });

  $('sample').addEventListener('click', async () => {
    const answer = await fetch('/sample').catch(() => null);
    if (!answer?.ok) return refuse('The sample text could not be loaded.');
    $('text').value = await answer.text();
    refuse('');
    count();
  });

  $('text').addEventListener('input', count);
  count();
}

/** How a lesson is called before it has a title: the beginning of its text. */
export function labelOf(text) {
  let line = text.trim().split('\n', 1)[0].replace(/^[#*_\s]+/, '');
  if (line === line.toUpperCase()) line = line.charAt(0) + line.slice(1).toLowerCase(); // a heading that shouts
  if (line.length <= 60) return line;
  return `${line.slice(0, 60).replace(/\s+\S*$/, '')} …`;
}

async function refusalOf(task) {
  const patience = new Promise((resolve) => { setTimeout(resolve, REFUSED_WITHIN, ''); });
  const answer = task.accepted.then(() => '', (error) => error.problem.detail ?? error.message);
  return Promise.race([answer, patience]);
}

function count() {
  write($('count'), plural($('text').value.split(/\s+/).filter(Boolean).length, 'word', 'words'));
}

function refuse(why) {
  write($('refused'), why);
  if (why) $('text').focus();
}
