/**
 * JSON as Agora signs it: one value, one text (RFC 8785).
 *
 * What is left to ECMAScript here is what the RFC took from it: how a number and
 * a string are written, and the order of names by their UTF-16 code units.
 */

/** Nested arrays and objects: 512 for the application, the rest for envelope and frame. */
export const MAX_DEPTH = 520;

/** Why a text or a value is not JSON as we take it. */
export class CanonicalError extends Error {
  name = "CanonicalError";
}

/**
 * Read a JSON text.
 *
 * @throws {CanonicalError} If it is not JSON, or nests deeper than *maxDepth*.
 */
export function parseJson(text, maxDepth = MAX_DEPTH) {
  let value;
  try {
    value = JSON.parse(text);
  } catch (error) {
    throw new CanonicalError(`not JSON: ${error.message}`);
  }
  checkDepth(value, maxDepth);
  return value;
}

/**
 * Refuse what nests deeper than *maxDepth*.
 *
 * @throws {CanonicalError} If it does.
 */
export function checkDepth(value, maxDepth = MAX_DEPTH) {
  // Level by level, with no call inside a call: a stranger chose the depth.
  let level = [value];
  for (let depth = 0; ; depth += 1) {
    const containers = level.filter((item) => typeof item === "object" && item !== null);
    if (containers.length === 0) return;
    if (depth === maxDepth) throw new CanonicalError(`nested more than ${maxDepth} levels deep`);
    level = containers.flatMap((item) => Object.values(item));
  }
}

/**
 * Write the text that is hashed and signed.
 *
 * A number that is not finite is `null`, as JSON has none.
 *
 * @throws {CanonicalError} If JSON cannot hold the value, or it nests too deep.
 */
export function canonicalText(value) {
  checkDepth(value);
  return write(value);
}

function write(value) {
  switch (typeof value) {
    case "string":
    case "number":
    case "boolean":
      return JSON.stringify(value);
    case "object":
      if (value === null) return "null";
      if (Array.isArray(value)) return `[${value.map(write).join(",")}]`;
      return `{${Object.keys(value).sort().map((name) => member(name, value[name])).join(",")}}`;
    default:
      throw new CanonicalError(`JSON cannot hold a ${typeof value}`);
  }
}

const member = (name, value) => `${JSON.stringify(name)}:${write(value)}`;
