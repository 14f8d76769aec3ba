"""Tasks, carried out: each run on a relay of its own, or on the one that is named."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib import import_module
from typing import Any

from agora.bench.plan import BENCHES, Task
from agora.bench.relays import Target, own_relay
from agora.bench.results import Result
from agora.bench.stage import Progress, Stage

__all__ = ["Relays", "play"]


@dataclass(frozen=True, slots=True)
class Relays:
    """
    What is measured.

    Attributes:
        named: A relay that runs already; None starts one for each run.
        options: Settings for those that are started, ``NAME=VALUE`` or ``NAME``.
        against: Another one, measured in turn with it where benches can be compared.
    """

    named: Target | None = None
    options: tuple[str, ...] = ()
    against: Target | None = None

    @contextmanager
    def first(self, more: Sequence[str]) -> Iterator[Target]:
        """Have the relay itself for the length of a ``with`` block."""
        if self.named:
            yield self.named
            return
        words = (*self.options, *more)
        settings = {name: value for name, _, value in (word.partition("=") for word in words)}
        with own_relay(settings) as target:
            # Figures of a relay that was told otherwise are figures of another relay.
            yield replace(target, name=" ".join(["agora", *(f"--{word}" for word in words)]))


def play(task: Task, relays: Relays, progress: Progress) -> Iterator[Result]:
    """
    Yield what each run finds, as soon as it has.

    Runs of two relays alternate, so that both meet the same weather of the machine.
    """
    bench = BENCHES[task.bench]
    for arguments in task.measurements():
        for _ in range(task.times):
            with relays.first(task.relay_options) as target:
                yield _run(bench.run, Stage(target, task.spoken, progress), arguments)
            if relays.against and bench.can_compare and task.is_compared:
                yield _run(bench.run, Stage(relays.against, task.spoken, progress), arguments)


def _run(run: Callable[..., Any], stage: Stage, arguments: dict[str, Any]) -> Result:
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        result: Result = runner.run(run(stage, **arguments))
    return result


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        factory: Callable[[], asyncio.AbstractEventLoop] = import_module("uvloop").new_event_loop
    except ModuleNotFoundError:  # where there is none, asyncio's own serves
        return None
    return factory
