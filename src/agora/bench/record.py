"""All that one run of all benches found, with the machine it was found on: written, and read."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

from agora.bench.measure import Machine
from agora.bench.results import Result, from_members, to_members
from agora.errors import InputError

__all__ = ["Record", "read_record", "record_lines"]

_HEAD = "record"


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """
    What was found.

    Attributes:
        machine: Where; None where nothing was measured yet.
        taken: On which day, as ``2026-01-31``.
        settings: With which settings relays were started.
        against: The name of the relay that ours was compared with.
        results: Every run.
    """

    machine: Machine | None = None
    taken: str = ""
    settings: str = ""
    against: str | None = None
    results: tuple[Result, ...] = ()

    def members(self) -> dict[str, Any]:
        """Return all but the results, as the members of a JSON object."""
        machine = asdict(self.machine) if self.machine else None
        head = {"taken": self.taken, "settings": self.settings, "against": self.against}
        return {"bench": _HEAD, "machine": machine, **head}


def record_lines(record: Record) -> Iterator[str]:
    """Yield a record as lines of JSON."""
    yield json.dumps(record.members())
    for result in record.results:
        yield json.dumps(to_members(result))


def read_record(lines: Iterable[str]) -> Record:
    """
    Return the record that *lines* of JSON hold.

    Raises:
        InputError: When they hold none.
    """
    try:
        head, *rest = [json.loads(line) for line in lines if line.strip()]
        if head["bench"] != _HEAD:
            raise ValueError("it does not begin with the machine: agora bench all --json does")
        return Record(
            machine=Machine(**head["machine"]) if head["machine"] else None,
            taken=head["taken"],
            settings=head["settings"],
            against=head["against"],
            results=tuple(map(from_members, rest)),
        )
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"no record of benches: {error}") from error
