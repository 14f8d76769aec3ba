/**
 * A picture of a key, so that one peer is told from another at a glance.
 *
 * Five by five squares, the left half mirrored, in a hue of its own: all from the key, nothing
 * from the name that its owner claims.
 */

import { svg } from "./dom.js";

const COLUMNS = 3;
const SIZE = 5;

/** Return the picture of a peer id. */
export function avatar(peerId) {
  const bytes = peerId.match(/../g).slice(-16).map((pair) => Number.parseInt(pair, 16));
  const picture = svg("svg.avatar", {
    "aria-hidden": "true",
    fill: "currentColor",
    focusable: "false",
    "shape-rendering": "crispEdges",
    viewBox: "-1.5 -1.5 8 8",
  });
  picture.style.setProperty("--hue", String(Math.round(((bytes[15] * 256 + bytes[14]) / 65536) * 360)));
  for (let column = 0; column < COLUMNS; column += 1) {
    for (let row = 0; row < SIZE; row += 1) {
      // Drawn of two bits of their own, so that a little more than half are filled.
      if (bytes[column * SIZE + row] % 16 < 7) continue;
      for (const x of new Set([column, SIZE - 1 - column])) {
        picture.append(svg("rect", { height: 1, width: 1, x, y: row }));
      }
    }
  }
  return picture;
}
