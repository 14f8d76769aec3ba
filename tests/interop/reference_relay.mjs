// Start the reference's own relay, of either dialect, and keep it until stdin ends.
//
//   node reference_relay.mjs DIRECTORY OPTIONS
//
// DIRECTORY holds the built reference (docs/howto/interop.md), OPTIONS is JSON in
// the words of our own relay's constructor. One line on stdout: {"url": "ws://…"}.

import { join, resolve } from "node:path";
import { pathToFileURL } from "node:url";

const [directory, optionsText] = process.argv.slice(2);
const options = JSON.parse(optionsText);
const host = "127.0.0.1";
const { Relay, RelayServer } = await import(
  pathToFileURL(join(resolve(directory), "dist", "index.js"))
);

const relay = RelayServer ? await startCurrent() : await startOlder();
const listener = relay.wss.address() ?? relay.server.address();
console.log(JSON.stringify({ url: `ws://${host}:${listener.port}` }));

process.stdin.resume();
process.stdin.on("end", async () => {
  await relay.stop();
  process.exit(0);
});

async function startCurrent() {
  const server = new RelayServer({
    identity: options.identity,
    storagePeers: options.storage_peers,
    storageDir: options.data_dir,
    maxPeers: options.max_peers ?? 1000000,
    rateLimit: {
      enabled: options.rate_limit_enabled ?? false,
      maxMessages: options.rate_limit_max_messages,
      windowMs: options.rate_limit_window_ms,
    },
    envelopeDedup: { maxIds: options.dedup_max_envelope_ids },
    heartbeatIntervalMs: options.heartbeat_interval && options.heartbeat_interval * 1000,
  });
  // Without a listener any bad frame of a client would end this process.
  server.on("error", (error) => console.error(error.message));
  await server.start(options.port ?? 0, host);
  return server;
}

async function startOlder() {
  const older = new Relay({
    port: options.port ?? 0,
    host,
    storagePeers: options.storage_peers,
    storageDir: options.data_dir,
  });
  await older.start();
  return older;
}
