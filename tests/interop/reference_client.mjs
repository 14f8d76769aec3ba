// Drive the reference's own RelayClient: commands in, events out, one JSON object a line.
//
//   node reference_client.mjs DIRECTORY CONFIG
//
// CONFIG is what RelayClient takes: relayUrl, publicKey, privateKey, pingInterval….
// A command names a method and its arguments: {"call": "send", "with": […]}; its
// outcome comes back as {"returned": …} or {"threw": "…"}. {"call": "seal"} makes
// a signed envelope with the reference's createEnvelope. What the client emits
// comes as {"emitted": "message", "with": […]}. The process ends with stdin.

import { join, resolve } from "node:path";
import { createInterface } from "node:readline";
import { pathToFileURL } from "node:url";

const [directory, configText] = process.argv.slice(2);
const config = JSON.parse(configText);
const { RelayClient, createEnvelope } = await import(
  pathToFileURL(join(resolve(directory), "dist", "index.js"))
);

const say = (line) => console.log(JSON.stringify(line));
const client = new RelayClient(config);

for (const name of ["connected", "disconnected", "message", "peer_online", "peer_offline"]) {
  client.on(name, (...given) => say({ emitted: name, with: given }));
}
client.on("error", (error) => say({ emitted: "error", with: [error.message] }));

const seal = (type, payload, to, inReplyTo) =>
  createEnvelope(
    type, config.publicKey, config.privateKey, payload, Date.now(), inReplyTo, to,
  );

for await (const line of createInterface({ input: process.stdin })) {
  const { call, with: given = [] } = JSON.parse(line);
  try {
    say({ returned: (await (call === "seal" ? seal(...given) : client[call](...given))) ?? null });
  } catch (error) {
    say({ threw: error.message });
  }
}

client.disconnect();
