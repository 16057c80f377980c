// The page's one module: sends the text, follows the task, shows the lesson.
// It follows by Server-Sent Events and, where they do not come through, by asking for the status again and again.

const $ = (id) => document.getElementById(id);
const TITLES = { started: 'Waiting to start', processing: 'At work', completed: 'Lesson ready',
  failed: 'This did not work', cancelled: 'Cancelled' };
const STATE_WORDS = { waiting: 'waiting', running: 'in progress', done: 'done', stopped: 'stopped' };

let task = null; // the one that is followed: {links, stream, timer, attempt, chunks, text}

/* -- sending --------------------------------------------------------------------------------------------------- */

$('form').addEventListener('submit', async (event) => {
  event.preventDefault();
  refuse('');
  $('make').disabled = true;
  try {
    const answer = await fetch('/process', {
      method: 'POST',
      headers: { 'Content-Type': 'application/json' },
      body: JSON.stringify({ input_text: $('text').value, user_token: null }),
    });
    if (!answer.ok) return refuse(await reason(answer));
    const accepted = await answer.json();
    history.replaceState(null, '', `?task=${accepted.request_id}`); // a reload finds the task again
    follow(accepted.links);
  } catch {
    refuse('The server cannot be reached. Nothing was sent; try again.');
  } finally {
    $('make').disabled = false;
  }
});

$('sample').addEventListener('click', async () => {
  const answer = await fetch('/sample').catch(() => null);
  if (!answer?.ok) return refuse('The sample text could not be loaded.');
  $('text').value = await answer.text();
  count();
});

$('text').addEventListener('input', count);

$('cancel').addEventListener('click', async () => {
  $('cancel').disabled = true;
  say('Stopping …');
  const answer = await fetch(task.links.cancel, { method: 'POST' }).catch(() => null);
  if (!answer?.ok) $('cancel').disabled = false;
});

$('again').addEventListener('click', async () => {
  const answer = await fetch(task.links.retry, { method: 'POST' }).catch(() => null);
  if (answer?.ok) follow(task.links);
});

$('fresh').addEventListener('click', () => {
  stopFollowing();
  history.replaceState(null, '', location.pathname);
  for (const id of ['work', 'story', 'lesson']) $(id).hidden = true;
  $('form').hidden = false;
  $('text').focus();
});

function count() {
  const words = $('text').value.trim().split(/\s+/).filter(Boolean).length;
  $('count').textContent = `${words.toLocaleString('en')} ${words === 1 ? 'word' : 'words'}`;
}

function refuse(why) {
  $('refused').textContent = why;
  if (why) $('text').focus();
}

async function reason(answer) {
  try {
    const problem = await answer.clone().json();
    return problem.detail || problem.title;
  } catch {
    return `The server answered ${answer.status}.`;
  }
}

/* -- following ------------------------------------------------------------------------------------------------- */

function follow(links) {
  stopFollowing();
  task = { links, attempt: 0, chunks: 0, text: '', ended: false };
  $('form').hidden = true;
  $('story').hidden = $('lesson').hidden = true;
  $('failure').hidden = true;
  $('story-text').replaceChildren();
  $('work').hidden = false;
  $('cancel').disabled = false;
  for (const item of $('steps').children) mark(item.dataset.step, 'waiting');
  show({ status: 'started', progress_percentage: 0 });
  $('work-title').focus({ preventScroll: true });
  scrollTo({ top: 0 });
  listen(task);
}

function stopFollowing() {
  task?.stream?.close();
  clearTimeout(task?.timer);
  task = null;
}

function listen(mine) {
  const stream = (mine.stream = new EventSource(mine.links.events));
  const on = (type, react) => stream.addEventListener(type, (event) => react(JSON.parse(event.data)));
  stream.onopen = () => channel('live');
  stream.onerror = () => {
    channel('reconnecting …');
    if (stream.readyState === EventSource.CLOSED) poll(mine); // refused: EventSource tries again only by itself
  };
  on('progress', show);
  on('step_started', (data) => data.path.length === 1 && mark(data.step, 'running'));
  on('step_finished', (data) => data.path.length === 1 && mark(data.step, data.failed ? 'stopped' : 'done'));
  on('started', (data) => begin(mine, data.attempt));
  on('output', (data) => output(mine, data));
  on('cancel_requested', () => { $('cancel').disabled = true; say('Stopping …'); });
  on('retrying', show); // both carry the fields of progress; what the next attempt does, it says itself
  on('released', show);
  on('snapshot', () => ask(mine));
  // After a retry the stream tells of the earlier end too: the status says whether this one is the end.
  for (const type of ['completed', 'failed', 'cancelled']) on(type, () => ask(mine));
}

async function poll(mine) {
  if (task !== mine || mine.ended) return;
  channel('asking every second');
  const wait = await ask(mine);
  mine.timer = setTimeout(poll, wait, mine);
}

// Asks for the task as it stands now; returns after how many milliseconds to ask again.
async function ask(mine) {
  try {
    const answer = await fetch(mine.links.self);
    if (task !== mine) return 0;
    if (answer.status === 404 || answer.status === 410) {
      return await end(mine, { status: 'failed', error_message: 'This task is not kept any more.' });
    }
    const found = await answer.json();
    if (found.done) return await end(mine, found);
    if (found.progress) show({ ...found.progress, status: found.status });
    return found.poll_after_ms ?? 1000;
  } catch {
    channel('no connection, trying again …');
    if (mine.stream?.readyState === EventSource.CLOSED && !mine.timer) mine.timer = setTimeout(poll, 1000, mine);
    return 2000;
  }
}

async function end(mine, { status, progress, error_message }) {
  if (mine.ended) return 0;
  let details = progress?.step ? `Stopped at “${progress.step}”` : '';
  if (status === 'completed') {
    const answer = await fetch(mine.links.result);
    if (task !== mine) return 0;
    const lesson = await answer.json();
    showLesson(lesson);
    details = `${sections(lesson)}, a story and a lecture`;
  }
  mine.ended = true;
  mine.stream?.close();
  channel('');
  show({ status, details, progress_percentage: progress?.progress_percentage });
  for (const item of $('steps').children) {
    if (status === 'completed') mark(item.dataset.step, 'done');
    else if (item.dataset.state === 'running') mark(item.dataset.step, 'stopped');
  }
  $('failure').hidden = status !== 'failed';
  $('failure').textContent = error_message || 'The lesson could not be made.';
  $('story').classList.remove('writing');
  return 0;
}

/* -- showing progress ------------------------------------------------------------------------------------------ */

function show({ status, step, step_number, total_steps, details, progress_percentage, eta_seconds }) {
  const ended = ['completed', 'failed', 'cancelled'].includes(status);
  $('work').dataset.status = status;
  $('work-title').textContent = TITLES[status] ?? 'At work';
  if (progress_percentage !== undefined) {
    $('fill').style.width = `${progress_percentage}%`;
    $('percent').textContent = `${Math.round(progress_percentage)} %`;
    $('bar').setAttribute('aria-valuenow', Math.round(progress_percentage));
  }
  $('details').textContent = details ?? '';
  $('eta').textContent = ended || !eta_seconds ? '' : `about ${duration(eta_seconds)} left`;
  $('cancel').hidden = ended;
  $('again').hidden = !['failed', 'cancelled'].includes(status);
  $('fresh').hidden = !ended;
  $('jump').hidden = status !== 'completed';
  say(ended ? TITLES[status] : step ? `Step ${step_number} of ${total_steps}: ${step}` : TITLES.started);
  if (step && !ended) for (const item of $('steps').children) {
    const number = [...$('steps').children].indexOf(item) + 1;
    if (number < step_number) mark(item.dataset.step, 'done');
    else if (number === step_number && item.dataset.state === 'waiting') mark(step, 'running');
  }
}

function mark(step, state) {
  const item = [...$('steps').children].find((candidate) => candidate.dataset.step === step);
  if (!item || item.dataset.state === state) return;
  item.dataset.state = state;
  item.lastElementChild.textContent = ` (${STATE_WORDS[state]})`;
}

function say(words) { // spoken once, however often it is said
  if ($('spoken').textContent !== words) $('spoken').textContent = words;
}

function channel(how) {
  $('channel').textContent = how;
}

function duration(seconds) {
  const whole = Math.max(1, Math.round(seconds));
  return whole < 90 ? `${whole} s` : `${Math.round(whole / 60)} min`;
}

/* -- the story, while it is written ---------------------------------------------------------------------------- */

function begin(mine, attempt) { // an attempt goes through the steps and writes its story anew
  if (attempt === mine.attempt) return;
  Object.assign(mine, { attempt, chunks: 0, text: '' });
  $('story-text').replaceChildren();
  $('cancel').disabled = false;
  for (const item of $('steps').children) mark(item.dataset.step, 'waiting');
}

function output(mine, { attempt, offset, chunks }) {
  begin(mine, attempt);
  const fresh = chunks.slice(Math.max(0, mine.chunks - offset)); // those that were not shown yet
  mine.chunks = Math.max(mine.chunks, offset + chunks.length);
  mine.text += fresh.join('');
  showStory(mine.text.split(/\n{2,}/));
  $('story').classList.add('writing');
}

function showStory(paragraphs) {
  const box = $('story-text');
  const wanted = paragraphs.filter((paragraph) => paragraph.trim());
  wanted.forEach((text, index) => {
    const paragraph = box.children[index] ?? box.appendChild(make('p'));
    if (paragraph.textContent !== text) paragraph.textContent = text;
  });
  while (box.children.length > wanted.length) box.lastElementChild.remove();
  $('story').hidden = !wanted.length;
}

/* -- the finished lesson --------------------------------------------------------------------------------------- */

function showLesson(lesson) {
  showStory(lesson.story.paragraphs);
  $('lesson').replaceChildren(
    make('h2', { id: 'lesson-title' }, lesson.title),
    make('p', { className: 'quiet' },
      `${lesson.source.words.toLocaleString('en')} words in ${sections(lesson)}, by ${lesson.written_by}`),
    chips(lesson.keywords),
    ...lesson.blocks.map(block),
    lecture(lesson.lecture),
  );
  $('lesson').hidden = false;
}

function sections({ blocks }) {
  return `${blocks.length} ${blocks.length === 1 ? 'section' : 'sections'}`;
}

function block({ number, title, summary, keywords, reading_minutes, quiz, image }) {
  const questions = quiz.map((question, index) => fieldset(question, `quiz-${number}-${index}`));
  return make('section', { className: 'card block' },
    make('img', { src: image.url, alt: image.alt, width: image.width, height: image.height }),
    make('h3', {}, `${number}. ${title}`),
    make('p', { className: 'quiet' }, `${reading_minutes} min to read`),
    make('ul', { className: 'sentences' }, ...summary.map((sentence) => make('li', {}, sentence))),
    chips(keywords), ...questions);
}

function fieldset({ question, choices, answer, explanation }, name) {
  const verdict = make('p', { className: 'verdict', role: 'status' });
  const labels = choices.map((choice, index) => {
    const input = make('input', { type: 'radio', name });
    input.addEventListener('change', () => {
      labels.forEach((label, other) => {
        label.classList.toggle('right', other === answer);
        label.classList.toggle('wrong', other === index && index !== answer);
      });
      verdict.textContent = (index === answer ? '✓ Right. ' : `✗ It is “${choices[answer]}”. `) + explanation;
    });
    return make('label', { className: 'choice' }, input, make('span', {}, choice));
  });
  return make('fieldset', {}, make('legend', {}, question), ...labels, verdict);
}

function lecture({ title, minutes, parts }) {
  return make('section', { className: 'card lecture', id: 'lecture' },
    make('h3', {}, `The lecture: ${title}`),
    make('p', { className: 'quiet' }, `About ${minutes} min, with a question to the listeners after each part`),
    ...parts.map((part, index) => make('details', { open: index === 0 },
      make('summary', {}, make('time', {}, part.starts_at), make('span', { className: 'title' }, part.title),
        make('span', { className: 'quiet' }, clock(part.seconds))),
      make('ul', {}, ...part.notes.map((note) => make('li', {}, note))),
      make('p', { className: 'ask' }, part.ask))));
}

function clock(seconds) {
  return `${Math.floor(seconds / 60)}:${String(seconds % 60).padStart(2, '0')}`;
}

function chips(words) {
  return make('ul', { className: 'chips' }, ...words.map((word) => make('li', {}, word)));
}

function make(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

/* -- a task from before a reload ------------------------------------------------------------------------------- */

count();
const earlier = new URLSearchParams(location.search).get('task');
if (earlier) {
  const answer = await fetch(`/tasks/${encodeURIComponent(earlier)}`).catch(() => null);
  if (answer?.ok) follow((await answer.json()).links);
}
