/** The few signs that the pages use, drawn with lines on a grid of 24. */

import { svg } from "./dom.js";

const PATHS = {
  back: ["M15 5l-7 7 7 7"],
  close: ["M6 6l12 12", "M18 6L6 18"],
  copy: ["M9 9h10v10H9z", "M15 9V5H5v10h4"],
  dots: ["M12 6h.01", "M12 12h.01", "M12 18h.01"],
  everyone: ["M4 11v3l3 .5L8.5 19H11l-1-4 9 4V6L9 10H5a1 1 0 00-1 1z"],
  group: ["M9 11a3 3 0 100-6 3 3 0 000 6z", "M3.5 19a5.5 5.5 0 0111 0", "M16 5.5a3 3 0 010 5", "M17 14a5 5 0 013.5 5"],
  key: ["M8 19a4 4 0 100-8 4 4 0 000 8z", "M11 12l8-8", "M16 7l3 3"],
  info: ["M12 21a9 9 0 100-18 9 9 0 000 18z", "M12 11v5", "M12 8h.01"],
  plus: ["M12 5v14", "M5 12h14"],
  reply: ["M10 6l-6 6 6 6", "M4 12h9a7 7 0 017 7"],
  retry: ["M20 11a8 8 0 10-2.3 6.3", "M20 5v6h-6"],
  send: ["M4 12l16-8-5 16-3.5-6.5z", "M11.5 13.5L20 4"],
};

/** Return a sign for sighted people; whoever uses it names it for all. */
export const icon = (name) =>
  svg(
    "svg.icon",
    {
      "aria-hidden": "true",
      fill: "none",
      focusable: "false",
      stroke: "currentColor",
      "stroke-linecap": "round",
      "stroke-linejoin": "round",
      "stroke-width": name === "dots" ? 2.5 : 1.75,
      viewBox: "0 0 24 24",
    },
    ...PATHS[name].map((d) => svg("path", { d })),
  );

/** Return the project's mark: a hall of columns that is also something said. */
export const mark = () =>
  svg(
    "svg",
    { "aria-hidden": "true", fill: "currentColor", focusable: "false", viewBox: "0 0 32 32" },
    svg("path", {
      d: "M16 2 30 9.6V12H2V9.6zM4.5 14h4v9h-4zm9.5 0h4v9h-4zm9.5 0h4v9h-4zM2 25h28v4h-9.5L16 32l-4.5-3H2z",
    }),
  );
