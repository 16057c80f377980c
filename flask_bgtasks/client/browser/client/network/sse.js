// Reads Server-Sent Events from a byte stream, as the WHATWG has them (HTML, section 9.2.6).
// Knows nothing of tasks. Every chunk is shown to `alive`: silence is somebody else's to judge.

/**
 * The events of a stream: `{event, data, id, retry}`, `retry` in milliseconds where one was set since the last event.
 * An event that was not finished when the stream ended is not given.
 */
export async function* readEvents(body, alive = () => {}) {
  const reader = body.pipeThrough(watched(alive)).pipeThrough(new TextDecoderStream()).getReader(); // it takes the BOM
  const parser = new Parser();
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      yield* parser.feed(value);
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}

/** Turns text, however it is cut, into events. */
export class Parser {
  #begun = []; // pieces of the line that has not ended yet: put together once, however many they are
  #event = '';
  #data = [];
  #id = '';
  #retry = null;
  #afterReturn = false; // the last chunk ended in CR: an LF at the start of the next is the same line's end

  /** The events that are finished with this text. */
  *feed(text) {
    if (this.#afterReturn && text) {
      if (text[0] === '\n') text = text.slice(1);
      this.#afterReturn = false;
    }
    if (text.endsWith('\r')) this.#afterReturn = true;
    const [end, ...begun] = text.split(/\r\n|\r|\n/);
    this.#begun.push(end);
    for (const next of begun) {
      const line = this.#begun.join('');
      this.#begun = [next];
      const event = line ? this.#field(line) : this.#dispatch();
      if (event) yield event;
    }
  }

  #field(line) {
    const colon = line.indexOf(':');
    if (colon === 0) return null; // a comment
    const name = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? '' : line.slice(colon + 1).replace(/^ /, '');
    if (name === 'data') this.#data.push(value);
    else if (name === 'event') this.#event = value;
    else if (name === 'id' && !value.includes('\0')) this.#id = value;
    else if (name === 'retry' && /^[0-9]+$/.test(value)) this.#retry = Number(value);
    return null;
  }

  #dispatch() {
    const found = { event: this.#event || 'message', data: this.#data.join('\n'), id: this.#id, retry: this.#retry };
    const empty = !this.#data.length;
    this.#event = '';
    this.#data = [];
    if (empty) return null; // what it said of id and retry holds
    this.#retry = null;
    return found;
  }
}

function watched(alive) {
  return new TransformStream({
    transform(chunk, controller) {
      alive();
      controller.enqueue(chunk);
    },
  });
}
