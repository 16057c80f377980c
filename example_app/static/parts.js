// The finished lesson as elements: its sections with pictures and quizzes, and the lecture.
// What it gets is the result of POST /process, as example_app/lesson.py describes it.

import { make, plural } from './dom.js';

export function lessonParts(lesson) {
  const words = lesson.source.words.toLocaleString('en');
  const sections = plural(lesson.blocks.length, 'section', 'sections');
  return [
    make('h2', { id: 'lesson-title' }, lesson.title),
    make('p', { className: 'quiet' }, `${words} words in ${sections}, by ${lesson.written_by}`),
    chips(lesson.keywords),
    ...lesson.blocks.map(block),
    lecture(lesson.lecture),
  ];
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
        make('span', { className: 'quiet' }, length(part.seconds))),
      make('ul', {}, ...part.notes.map((note) => make('li', {}, note))),
      make('p', { className: 'ask' }, part.ask))));
}

function length(seconds) {
  return `${Math.floor(seconds / 60)}:${String(seconds % 60).padStart(2, '0')}`;
}

function chips(words) {
  return make('ul', { className: 'chips' }, ...words.map((word) => make('li', {}, word)));
}
