/**
 * A chart of the last hour: drawn as SVG, read with the eye, the pointer, the keyboard or aloud.
 *
 * To a screen reader it is a slider along time whose value is what was measured there; below it
 * the same figures stand in a table.
 */

import { el, say, set, svg } from "../ui/dom.js";
import { timeOfDay } from "../ui/format.js";

const MARGIN = { bottom: 22, left: 40, right: 6, top: 8 };

/** Rows of the table: one for every five minutes of the hour. */
const ROWS = 12;

export class Chart {
  #figure;
  #options;
  #data = null;
  #at = null;
  #plot = svg("svg", { "aria-hidden": "true", focusable: "false" });
  #now = el("output.now.numbers", { "aria-hidden": "true" });
  #table = el("tbody");
  #area;

  /**
   * @param {Element} figure An empty `<figure>` that gets the chart.
   * @param {object} options
   * @param {string} options.title What is shown.
   * @param {Array<{name, kind}>} options.series What is drawn, `area`, `line` or `bars`; the first
   *   is what the others are measured beside.
   * @param {function} options.say Writes a value: `(value) => "3.2 per second"`.
   * @param {function} options.tick Writes a value beside the axis.
   * @param {number} options.least The top of the axis when there is nothing to see.
   * @param {boolean} options.whole Whether values between two whole ones make no sense.
   */
  constructor(figure, options) {
    this.#figure = figure;
    this.#options = options;
    this.#area = el(
      "div.plot",
      {
        "aria-label": `${options.title}, last hour`,
        onblur: () => this.#point(null),
        onkeydown: (event) => this.#key(event),
        onpointerleave: () => this.#point(null),
        onpointermove: (event) => this.#pointer(event),
        role: "slider",
        tabindex: 0,
      },
      this.#plot,
    );
    figure.append(this.#caption(), this.#area, this.#details());
    new ResizeObserver(() => this.#draw()).observe(this.#area);
  }

  #caption() {
    const { series, title } = this.#options;
    const legend = series.map(({ name }, index) => el(`span.legend.series-${index}`, {}, name));
    return el("figcaption", {}, el("h2", {}, title), series.length > 1 ? legend : null, this.#now);
  }

  #details() {
    const names = this.#options.series.map(({ name }) => el("th", { class: "number", scope: "col" }, name));
    const head = el("thead", {}, el("tr", {}, el("th", { scope: "col" }, "From"), names));
    return el("details", {}, el("summary", {}, "As a table"), el("table.rows", {}, head, this.#table));
  }

  /**
   * Show new figures.
   *
   * @param {{from: number, step: number, values: number[][]}} data For each series as many values;
   *   the first begins at *from*, each is for *step* ms.
   */
  show(data) {
    this.#data = data;
    this.#draw();
    this.#fillTable();
  }

  get #count() {
    return this.#data.values[0].length;
  }

  // Drawing

  #draw() {
    const { width, height } = this.#area.getBoundingClientRect();
    if (this.#data === null || width === 0) return;
    const inner = { height: height - MARGIN.top - MARGIN.bottom, width: width - MARGIN.left - MARGIN.right };
    const top = ceilingOf(Math.max(this.#options.least, ...this.#data.values.flat()), this.#options.whole);
    const scale = {
      x: (index) => round(MARGIN.left + (inner.width * index) / Math.max(1, this.#count - 1)),
      y: (value) => round(MARGIN.top + inner.height * (1 - value / top)),
    };
    set(this.#plot, { height, viewBox: `0 0 ${width} ${height}`, width });
    this.#plot.replaceChildren(
      ...this.#grid(scale, top, width),
      ...this.#hours(scale, height, width),
      ...this.#options.series.flatMap(({ kind }, index) => DRAW[kind](this.#data.values[index], scale, index)),
      ...this.#cursor(scale, inner),
    );
    this.#tell();
  }

  #grid(scale, top, width) {
    const parts = this.#options.whole && top < 2 ? [0, 1] : [0, 0.5, 1];
    return parts.flatMap((part) => {
      const y = scale.y(top * part);
      const label = { class: "tick", "text-anchor": "end", x: MARGIN.left - 8, y: y + 4 };
      return [
        svg("line", { class: "grid", x1: MARGIN.left, x2: width - MARGIN.right, y1: y, y2: y }),
        svg("text", label, this.#options.tick(top * part)),
      ];
    });
  }

  #hours(scale, height, width) {
    const quarters = width < 420 ? 2 : 4;
    return Array.from({ length: quarters + 1 }, (_, part) => {
      const index = ((this.#count - 1) * part) / quarters;
      const anchor = part === 0 ? "start" : part === quarters ? "end" : "middle";
      const place = { class: "tick", "text-anchor": anchor, x: scale.x(index), y: height - 4 };
      return svg("text", place, part === quarters ? "now" : timeOfDay(this.#timeOf(index)));
    });
  }

  #cursor(scale, inner) {
    if (this.#at === null) return [];
    const x = scale.x(this.#at);
    const line = { class: "cursor", x1: x, x2: x, y1: MARGIN.top, y2: MARGIN.top + inner.height };
    const dots = this.#data.values.map((values, index) =>
      svg(`circle.dot.series-${index}`, { cx: x, cy: scale.y(values[this.#at]), r: 4 }),
    );
    return [svg("line", line), ...dots];
  }

  // Reading

  #timeOf(index) {
    return this.#data.from + index * this.#data.step;
  }

  /** Write what is under the cursor; without one, what is measured now. */
  #tell() {
    const at = this.#at ?? this.#count - 1;
    const said = this.#said(at);
    const time = this.#at === null ? "now" : timeOfDay(this.#timeOf(at));
    say(this.#now, `${time}: ${said}`);
    set(this.#area, {
      "aria-valuemax": this.#count - 1,
      "aria-valuemin": 0,
      "aria-valuenow": at,
      "aria-valuetext": `${time}: ${said}`,
    });
  }

  #said(index) {
    const { say: write, series } = this.#options;
    const values = this.#data.values.map((of) => write(of[index]));
    if (series.length === 1) return values[0];
    return values.map((value, number) => `${value} ${series[number].name}`).join(", ");
  }

  #point(index) {
    if (this.#data === null || this.#at === index) return;
    this.#at = index;
    this.#draw();
  }

  #pointer(event) {
    if (this.#data === null) return;
    const { left, width } = this.#area.getBoundingClientRect();
    const part = (event.clientX - left - MARGIN.left) / (width - MARGIN.left - MARGIN.right);
    this.#point(Math.round(clamp(part, 0, 1) * (this.#count - 1)));
  }

  #key(event) {
    if (this.#data === null) return;
    const last = this.#count - 1;
    const at = this.#at ?? last;
    const perMinute = Math.max(1, Math.round(60_000 / this.#data.step));
    const target = {
      ArrowDown: at - 1,
      ArrowLeft: at - 1,
      ArrowRight: at + 1,
      ArrowUp: at + 1,
      End: last,
      Home: 0,
      PageDown: at - 5 * perMinute,
      PageUp: at + 5 * perMinute,
    }[event.key];
    if (target === undefined) return;
    event.preventDefault();
    this.#point(clamp(target, 0, last));
  }

  #fillTable() {
    if (!this.#figure.querySelector("details").open && this.#table.children.length > 0) return;
    const size = Math.ceil(this.#count / ROWS);
    const rows = Array.from({ length: ROWS }, (_, row) => {
      const cells = this.#data.values.map((values) => {
        const part = values.slice(row * size, (row + 1) * size);
        const mean = part.reduce((sum, value) => sum + value, 0) / Math.max(1, part.length);
        return el("td.number", {}, this.#options.say(this.#options.whole ? Math.round(mean) : mean));
      });
      return el("tr", {}, el("th", { scope: "row" }, timeOfDay(this.#timeOf(row * size))), cells);
    });
    this.#table.replaceChildren(...rows);
  }
}

const DRAW = {
  area(values, scale, index) {
    const line = lineOf(values, scale);
    const floor = scale.y(0);
    const closed = `${line}L${scale.x(values.length - 1)} ${floor}L${scale.x(0)} ${floor}Z`;
    return [svg(`path.area.series-${index}`, { d: closed }), svg(`path.line.series-${index}`, { d: line })];
  },
  bars(values, scale, index) {
    const floor = scale.y(0);
    const width = Math.max(1, scale.x(1) - scale.x(0) - 1);
    const bars = values.flatMap((value, at) =>
      value > 0 ? [`M${round(scale.x(at) - width / 2)} ${floor}V${scale.y(value)}h${round(width)}V${floor}Z`] : [],
    );
    return [svg(`path.bars.series-${index}`, { d: bars.join("") })];
  },
  line(values, scale, index) {
    return [svg(`path.line.series-${index}`, { d: lineOf(values, scale) })];
  },
};

const lineOf = (values, scale) =>
  values.map((value, index) => `${index === 0 ? "M" : "L"}${scale.x(index)} ${scale.y(value)}`).join("");

/** Return the next higher round number, whose half is round too. */
function ceilingOf(value, isWhole) {
  const power = 10 ** Math.floor(Math.log10(value));
  const step = (isWhole ? [1, 2, 4, 6, 8, 10] : [1, 2, 3, 4, 5, 6, 8, 10]).find((factor) => value <= factor * power);
  return step * power;
}

const clamp = (value, least, most) => Math.min(most, Math.max(least, value));

const round = (value) => Math.round(value * 10) / 10;
