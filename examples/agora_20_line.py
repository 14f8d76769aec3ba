import hashlib, json, time  # noqa: E401, I001 (three lines for these would leave too few)
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from websockets.sync.client import connect

RELAY_URL = "ws://localhost:9470"
key, greeted = Ed25519PrivateKey.generate(), {""}  # the key that signs; a new one at every start
me = "302a300506032b6570032100" + key.public_key().public_bytes_raw().hex()  # our address
hello = {"from": me, "type": "publish", "payload": {"text": "Hello from 20 lines of Python!"}}
with connect(RELAY_URL) as relay:
    relay.send(json.dumps({"type": "register", "publicKey": me}))
    for frame in map(json.loads, relay):
        print(json.dumps(frame), flush=True)
        asked = frame.get("envelope", {})  # a message: answer it, unless it is itself an answer
        reply = {"inReplyTo": asked["id"]} if "id" in asked and "inReplyTo" not in asked else {}
        greeted |= (new := {p.get("publicKey", "") for p in frame.get("peers", [frame])} - greeted)
        for peer in [frame["from"]] if reply else new:
            hi = hello | reply | {"to": [peer], "timestamp": time.time_ns() // 10**6}
            raw = json.dumps(hi, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
            seal = {"id": hashlib.sha256(raw).hexdigest(), "signature": key.sign(raw).hex()}
            relay.send(json.dumps({"type": "message", "to": peer, "envelope": hi | seal}))
