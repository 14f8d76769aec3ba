"""
What is measured: the time that processes spend, the memory they hold, and one signature.

Processes are looked at from outside, through ``/proc``; where that is not there, such
figures are None. The unit of everything here is in its name.
"""

from __future__ import annotations

import os
import platform
import time
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median

import agora
from agora.keys import KeyPair, verify

__all__ = [
    "Machine",
    "Sample",
    "cpu_seconds",
    "own_cpu_seconds",
    "rss_mb",
    "sample",
    "verify_us",
]

_TICKS = os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 100


# Processes


@dataclass(frozen=True, slots=True)
class Sample:
    """A process, and those that it has started, at one moment."""

    rss_kb: float
    files: int
    threads: int

    @property
    def rss_mb(self) -> float:
        """Resident memory in MB, of 1024 KB each."""
        return self.rss_kb / 1024


def rss_mb(seen: Sample | None) -> float | None:
    """Return the memory of what was seen, if it was."""
    return None if seen is None else seen.rss_mb


def cpu_seconds(pid: int | None) -> float | None:
    """Return the processor time that a process and its children have used, in steps of 10 ms."""
    if pid is None:
        return None
    with suppress(OSError, IndexError, ValueError):
        used = [_cpu_seconds(one) for one in (pid, *_children(pid))]
        return sum(used)
    return None


def _cpu_seconds(pid: int) -> float:
    # The name, in brackets, may hold anything; what follows it does not.
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def _children(pid: int) -> list[int]:
    """Return the processes that a process has started."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # it may have ended meanwhile
            parent = path.read_text().rpartition(")")[2].split()[1]
            if int(parent) == pid:
                found.append(int(path.parent.name))
    return found


def own_cpu_seconds() -> float:
    """Return the processor time that this process has used."""
    return time.process_time()


def sample(pid: int | None) -> Sample | None:
    """Return what a process holds now; None where that cannot be seen."""
    if pid is None:
        return None
    with suppress(OSError, KeyError, ValueError):
        each = [_sample(one) for one in (pid, *_children(pid))]
        return Sample(
            sum(one.rss_kb for one in each),
            sum(one.files for one in each),
            sum(one.threads for one in each),
        )
    return None


def _sample(pid: int) -> Sample:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    status = {name: value.split() for name, _, value in (line.partition(":") for line in lines)}
    files = len(os.listdir(f"/proc/{pid}/fd"))
    return Sample(float(status["VmRSS"][0]), files, int(status["Threads"][0]))


# One signature


_ROUNDS, _BATCH = 9, 60
_HEADER_BYTES = 275
"""What is signed of a message beside its payload: its sender, a recipient, its time and type."""


def verify_us(payload_bytes: int = 500) -> float:
    """
    Return what it costs to verify a message here and now: the median of a few rounds.

    The signature alone, over as many bytes as a message of *payload_bytes* signs.
    """
    keys = KeyPair.generate()
    texts = [bytes([number]) * (payload_bytes + _HEADER_BYTES) for number in range(_BATCH)]
    signed = [(text, keys.sign(text)) for text in texts]
    return median(_round_us(keys, signed) for _ in range(_ROUNDS))


def _round_us(keys: KeyPair, signed: list[tuple[bytes, str]]) -> float:
    before = time.thread_time()
    for text, signature in signed:
        verify(keys.peer_id, signature, text)
    return (time.thread_time() - before) / len(signed) * 1e6


# The machine


@dataclass(frozen=True, slots=True)
class Machine:
    """Where figures were taken, and with which versions."""

    processor: str
    cores: int
    memory_gb: float | None
    system: str
    python: str
    versions: str

    @classmethod
    def here(cls) -> Machine:
        """Return this machine."""
        usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None
        return cls(
            processor=_processor(),
            cores=usable or os.cpu_count() or 1,
            memory_gb=_memory_gb(),
            system=f"{platform.system()} {platform.release().partition('-')[0]}",
            python=f"{platform.python_implementation()} {platform.python_version()}",
            versions=", ".join(_versions()),
        )


def _processor() -> str:
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return " ".join(line.partition(":")[2].split())
    return platform.processor() or platform.machine()


def _memory_gb() -> float | None:
    with suppress(OSError, ValueError):
        pages, size = os.sysconf("SC_PHYS_PAGES"), os.sysconf("SC_PAGE_SIZE")
        return round(pages * size / 2**30, 1)
    return None


def _versions() -> list[str]:
    found = [f"agora {agora.__version__}"]
    for name in ("pynacl", "websockets", "uvloop"):
        with suppress(PackageNotFoundError):
            found.append(f"{name} {version(name)}")
    return found
