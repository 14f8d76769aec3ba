"""
What the HTTP door costs: memory of an idle relay with it and without, and CPU for a request.

    python -m benchmarks.http [--requests 2000] [--json]

Measured is a relay in a process of its own, asked over one connection that stays
open; CPU is that of the relay, TCP and all. Beside it stands how often one
signature could be checked in that time on the same machine.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit

from agora.envelope import seal
from agora.keys import KeyPair, verify
from agora.protocol.proof import OVER_HTTP, audience_of, sign_proof
from agora.sealing import now_ms

__all__ = ["Figures", "measure"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """
    What was measured.

    Attributes:
        idle_mib: Memory of a relay without HTTP that nobody has asked anything yet.
        idle_http_mib: The same with HTTP.
        used_http_mib: With HTTP, after all these requests and one look at its documents.
        get_us: Microseconds of CPU for a GET with a token that has little to answer.
        mail_us: The same for a message on its whole way: sent, polled, acked.
        verify_us: The same for one check of a signature.
    """

    idle_mib: float
    idle_http_mib: float
    used_http_mib: float
    get_us: float
    mail_us: float
    verify_us: float


def measure(requests: int) -> Figures:
    """Measure with so many requests of each kind."""
    with _relay("--no-http") as (process, _):
        idle_mib = _resident_mib(process)
    with _relay("--http", "--no-rate-limit-enabled") as (process, url):
        idle_http_mib = _resident_mib(process)
        peer = _Peer(url)
        for _ in range(requests // 10):
            peer.get("/v1/peers")
            peer.send_to_itself()
        get_us = _cpu_us(process, requests, lambda: peer.get("/v1/peers"))
        mail_us = _cpu_us(process, requests, peer.send_to_itself)
        peer.get("/docs")
        used_http_mib = _resident_mib(process)
    return Figures(
        idle_mib=idle_mib,
        idle_http_mib=idle_http_mib,
        used_http_mib=used_http_mib,
        get_us=get_us,
        mail_us=mail_us,
        verify_us=_verify_us(requests),
    )


@contextmanager
def _relay(*flags: str) -> Iterator[tuple[int, str]]:
    """Run a relay; yield its process id and where its HTTP API is, if it has one."""
    command = [sys.executable, "-m", "agora", "relay", "--port", "0", "--memory"]
    with (
        tempfile.TemporaryDirectory() as folder,
        subprocess.Popen(  # noqa: S603  # a fixed command
            [*command, "--data-dir", folder, "--verify-processes", "0", *flags],
            stderr=subprocess.PIPE,
            text=True,
        ) as process,
    ):
        assert process.stderr is not None  # as asked
        try:
            yield process.pid, _url_in(process.stderr)
        finally:
            process.terminate()


def _url_in(log: IO[str]) -> str:
    """Read the log until the relay serves; return the URL of its HTTP API."""
    url = ""
    for line in log:
        if found := re.search(r"serving HTTP.*?(http\S+)", line):
            url = found[1]
        if "version=" in line:
            break
    return url


class _Line:
    """One connection to a relay."""

    def __init__(self, url: str) -> None:
        place = urlsplit(url)
        self._socket = socket.create_connection((place.hostname, place.port))
        self._answers = self._socket.makefile("rb")
        self.token = ""

    def ask(self, method: str, path: str, members: object = None) -> None:
        """Write a request."""
        body = b"" if members is None else json.dumps(members).encode()
        head = f"{method} {path} HTTP/1.1\r\nHost: relay\r\nAuthorization: Bearer {self.token}\r\n"
        if body:
            head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
        self._socket.sendall(head.encode() + b"\r\n" + body)

    def answer(self) -> bytes:
        """Read the answer."""
        size = 0
        while (header := self._answers.readline()) != b"\r\n":
            name, _, value = header.partition(b":")
            size = int(value) if name.lower() == b"content-length" else size
        return self._answers.read(size)

    def get(self, path: str) -> bytes:
        """Ask for *path*."""
        self.ask("GET", path)
        return self.answer()

    def post(self, path: str, members: object) -> Any:
        """Post *members* to *path*."""
        self.ask("POST", path, members)
        return json.loads(self.answer())


class _Peer(_Line):
    """A peer that writes to itself, on two connections: an answer to what is sent needs an ack."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self._sending = _Line(url)
        self._keys = KeyPair.generate()
        about = {"publicKey": self._keys.peer_id, "nonce": "5a" * 32}
        challenge = self.post("/v1/challenge", about)
        proof = sign_proof(
            self._keys,
            audience=audience_of(url),
            nonce=challenge["nonce"],
            relay=challenge["relay"],
            purposes=OVER_HTTP,
        )
        about |= {"nonce": challenge["nonce"], "signature": proof}
        self.token = self._sending.token = self.post("/v1/register", about)["token"]

    def send_to_itself(self) -> None:
        """Bring one message all the way."""
        envelope = seal(
            self._keys,
            type="publish",
            payload={"text": "hello"},
            to=[self._keys.peer_id],
            timestamp_ms=now_ms(),
        )
        self._sending.ask("POST", "/v1/send", {"envelope": envelope.to_dict()})
        [message] = json.loads(self.get("/v1/messages?wait=10"))["messages"]
        self.post("/v1/ack", {"ids": [message["envelope"]["id"]]})
        self._sending.answer()


def _cpu_us(process: int, count: int, work: Callable[[], object]) -> float:
    """Return the CPU that *process* spends on each of *count* pieces of *work*."""
    before = _cpu_seconds(process)
    for _ in range(count):
        work()
    return (_cpu_seconds(process) - before) * 1e6 / count


def _cpu_seconds(process: int) -> float:
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _resident_mib(process: int) -> float:
    status = Path(f"/proc/{process}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) / 1024


def _verify_us(count: int) -> float:
    keys = KeyPair.generate()
    signature = keys.sign(b"x" * 300)
    began = time.process_time()
    for _ in range(count):
        verify(keys.peer_id, signature, b"x" * 300)
    return (time.process_time() - began) * 1e6 / count


def _main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    parser.add_argument("--requests", type=int, default=2_000)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    found = measure(options.requests)
    if options.json:
        print(json.dumps(asdict(found)))
        return
    print(f"an idle relay, without HTTP     {found.idle_mib:8.1f} MiB")
    print(f"an idle relay, with HTTP        {found.idle_http_mib:8.1f} MiB")
    print(f"with HTTP, when it was used     {found.used_http_mib:8.1f} MiB")
    print(f"one check of a signature        {found.verify_us:8.1f} us")
    for name, cost in (
        ("a GET with a token", found.get_us),
        ("a message, 3 requests", found.mail_us),
    ):
        print(f"{name:31} {cost:8.1f} us, {cost / found.verify_us:.1f} checks")


if __name__ == "__main__":
    _main()
