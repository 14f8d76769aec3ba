/** Server-sent events read from a fetch, which can carry a token where EventSource cannot. */

/**
 * Yield the events of a response, those that came together as one list; comments make empty ones.
 *
 * @param {ReadableStream<Uint8Array>} body
 * @param {number} patience Milliseconds without a byte after which the connection counts as dead.
 * @yields {Array<{event: string, id: string|null, data: string}>}
 * @throws {Error} When the connection breaks or is silent for too long.
 */
export async function* eventsOf(body, patience) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  const parser = new Parser();
  try {
    for (;;) {
      const { done, value } = await within(patience, reader.read());
      if (done) return;
      yield parser.take(value);
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}

/** Cuts text into events (HTML standard, section 9.2.6). */
class Parser {
  #rest = "";
  #event = "";
  #id = null;
  #data = [];

  take(text) {
    // A carriage return at the end may be the first half of a line's end.
    const whole = this.#rest + text;
    const cut = whole.endsWith("\r") ? whole.length - 1 : whole.length;
    const lines = whole.slice(0, cut).split(/\r\n|\n|\r/);
    this.#rest = lines.pop() + whole.slice(cut);
    return lines.flatMap((line) => this.#line(line));
  }

  #line(line) {
    if (line === "") return this.#end();
    const [, name, value] = /^([^:]*):? ?(.*)$/s.exec(line);
    if (name === "data") this.#data.push(value);
    else if (name === "event") this.#event = value;
    else if (name === "id") this.#id = value;
    return [];
  }

  #end() {
    const data = this.#data.join("\n");
    const event = { data, event: this.#event || "message", id: this.#id };
    this.#event = "";
    this.#data = [];
    return data === "" ? [] : [event];
  }
}

/** Give up on a promise after so many milliseconds. */
export function within(ms, promise) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`nothing for ${ms} ms`)), ms);
  });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}
