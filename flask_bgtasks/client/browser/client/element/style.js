// How <bg-task> looks by itself. Colours follow the page's `color-scheme`; what may be changed is a CSS variable
// (`--bg-task-…`, listed in bg-task.d.ts). Every line that comes and goes has its room kept, so that nothing jumps.

const STYLE = `
:host {
  --_ink: var(--bg-task-ink, light-dark(#1f2328, #e6e8eb));
  --_quiet: var(--bg-task-quiet, light-dark(#59636e, #a3abb5));
  --_surface: var(--bg-task-surface, transparent);
  --_line: var(--bg-task-line, light-dark(#8c959f, #6b7480));
  --_track: var(--bg-task-track, light-dark(#e4e8ec, #30363d));
  --_accent: var(--bg-task-accent, light-dark(#0b62c4, #6cb0ff));
  --_good: var(--bg-task-good, light-dark(#1a7035, #63cf86));
  --_bad: var(--bg-task-bad, light-dark(#b3201f, #ff958c));
  --_bad-wash: var(--bg-task-bad-wash, light-dark(#fdecea, #3c1d1d));
  --_warn: var(--bg-task-warn, light-dark(#845400, #f0c060));
  --_radius: var(--bg-task-radius, 8px);
  --_gap: var(--bg-task-gap, 0.75rem);
  --_step: var(--bg-task-step-width, 9.5rem);
  display: block;
  color: var(--_ink);
  background: var(--_surface);
}
@supports not (color: light-dark(red, red)) {
  :host {
    --_ink: var(--bg-task-ink, CanvasText); --_quiet: var(--bg-task-quiet, GrayText);
    --_line: var(--bg-task-line, GrayText); --_track: var(--bg-task-track, #8884);
    --_accent: var(--bg-task-accent, LinkText); --_good: var(--bg-task-good, LinkText);
    --_bad: var(--bg-task-bad, CanvasText); --_bad-wash: var(--bg-task-bad-wash, #f002);
    --_warn: var(--bg-task-warn, CanvasText);
  }
}
:host([hidden]), [hidden] { display: none !important; }
*, ::before, ::after { box-sizing: border-box; }
p, ol { margin: 0; padding: 0; }

#task { display: grid; grid-template-columns: minmax(0, 1fr); gap: var(--_gap); overflow-wrap: anywhere; }
#head { display: flex; flex-wrap: wrap; align-items: flex-start; justify-content: space-between; gap: 0.25rem 0.9rem; min-height: 44px; }
#names { flex: 1 1 10rem; min-width: 0; }
#title { font-size: 1.15em; font-weight: 600; line-height: 1.3; }
#title:focus { outline: none; }
#title:has(+ #subtitle:empty) { translate: 0 0.55em; } /* alone, it stands in the middle of both lines */
#subtitle { min-height: 1.45em; color: var(--_quiet); font-size: 0.9em; line-height: 1.45; font-variant-numeric: tabular-nums; }
#measure { display: flex; flex-wrap: wrap; align-items: center; gap: 0 0.75rem; }
#percentage { flex: none; min-width: 3.2em; min-height: 1.3em; text-align: end; font-size: 1.15em; font-weight: 600; font-variant-numeric: tabular-nums; }

button {
  min-height: 44px;
  padding: 0.5em 1em;
  border: 1px solid var(--_line);
  border-radius: var(--_radius);
  background: transparent;
  color: inherit;
  font: inherit;
  font-weight: 600;
  cursor: pointer;
}
button:hover { background: var(--_track); }
button[aria-disabled="true"] { opacity: 0.75; cursor: default; background: transparent; }
:focus-visible { outline: 3px solid var(--_accent); outline-offset: 2px; }

#bar { flex: 1 1 6rem; block-size: var(--bg-task-bar-height, 10px); border-radius: 99px; background: var(--_track); overflow: hidden; }
#fill { block-size: 100%; inline-size: 0; border-radius: inherit; background: var(--_accent); transition: inline-size 0.4s ease-out; }
:host([data-status="completed"]) #fill { background: var(--_good); }
:host([data-status="failed"]) #fill, :host([data-status="rejected"]) #fill { background: var(--_bad); }
:host([data-status="cancelled"]) #fill, :host([data-status="gone"]) #fill { background: var(--_quiet); }

#now { display: flex; gap: 0.9rem; align-items: baseline; justify-content: space-between; min-height: 1.75em; line-height: 1.6; font-variant-numeric: tabular-nums; }
#details { flex: 1; min-width: 0; overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }
#eta { flex: none; color: var(--_quiet); font-size: 0.9em; }
#badge { flex: none; max-width: 70%; padding-inline: 0.7em; border-radius: 99px; border: 1px solid currentColor; color: var(--_warn); font-size: 0.85em; font-weight: 600; }
#badge::before { content: ""; display: inline-block; inline-size: 0.55em; block-size: 0.55em; margin-inline-end: 0.5em; border-radius: 50%; background: currentColor; animation: breathe 1.6s ease-in-out infinite; }

#steps { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, var(--_step)), 1fr)); gap: 0.5rem 0.7rem; list-style: none; }
#steps li { display: flex; gap: 0.4em; align-items: baseline; color: var(--_quiet); font-size: 0.95em; line-height: 1.4; }
.words { flex: 1; min-width: 0; overflow-wrap: break-word; }
.time { display: inline-block; min-width: 2.6em; margin-inline-start: 0.5em; font-size: 0.8em; color: var(--_quiet); font-variant-numeric: tabular-nums; }
.mark { flex: none; align-self: flex-start; display: grid; place-items: center; inline-size: 1.4em; block-size: 1.4em; border: 2px solid var(--_line); border-radius: 50%; font-size: 0.9em; font-weight: 700; line-height: 1; }
li[data-state="running"], li[data-state="done"] { color: var(--_ink) !important; }
li[data-state="running"] .mark { border-color: var(--_accent); border-inline-end-color: transparent; animation: turn 0.9s linear infinite; }
li[data-state="done"] .mark { border-color: var(--_good); background: var(--_good); color: var(--bg-task-good-ink, light-dark(#fff, #10240f)); }
li[data-state="done"] .mark::before { content: "✓"; }
li[data-state="failed"] .mark, li[data-state="stopped"] .mark { border-color: var(--_bad); color: var(--_bad); }
li[data-state="failed"] .mark::before, li[data-state="stopped"] .mark::before { content: "×"; }

#error { padding: 0.65em 0.85em; border-radius: var(--_radius); background: var(--_bad-wash); color: var(--_bad); }
[part="output"] { white-space: pre-wrap; }
.spoken { position: absolute; inline-size: 1px; block-size: 1px; overflow: hidden; clip-path: inset(50%); white-space: nowrap; }

@keyframes turn { to { rotate: 1turn; } }
@keyframes breathe { 50% { opacity: 0.25; } }

@media (prefers-reduced-motion: reduce) {
  * { animation: none !important; transition: none !important; }
  *::before { animation: none !important; }
  li[data-state="running"] .mark { border-inline-end-color: var(--_accent); }
  li[data-state="running"] .mark::before { content: "•"; }
}
@media (forced-colors: active) {
  #bar { border: 1px solid CanvasText; background: Canvas; }
  #fill { background: Highlight !important; forced-color-adjust: none; }
  li[data-state="done"] .mark { background: Canvas; color: CanvasText; }
  #error { border: 1px solid CanvasText; }
  #badge::before { background: CanvasText; }
}
`;

/**
 * The style sheet of every element. Constructed, not a <style> element: that would be blocked by a Content Security
 * Policy with `style-src 'self'`, which does not concern what a script makes of text that it has (CSSOM).
 */
export function sheet() {
  if (!made) {
    made = new CSSStyleSheet();
    made.replaceSync(STYLE);
  }
  return made;
}

let made = null; // not before there is an element: on a server there is no CSSStyleSheet
