"""
A fuzzer without instruments: changes bytes of what it has seen, and keeps what made news.

A target takes bytes and returns how it came out, such as the error's code; an
input whose outcome was never seen before joins the corpus. So the search walks
from valid input into the corners, guided by nothing but answers.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from collections.abc import Callable, Hashable, Sequence

__all__ = ["Finding", "Target", "fuzz", "main", "mutated"]

Target = Callable[[bytes], Hashable]
"""Takes any bytes, returns how it came out, and raises when the invariant does not hold."""

_MOST_BYTES = 20_000
"""To which an input may grow, unless the first of the corpus is longer."""

_MOST_KEPT = 5_000


class Finding(Exception):
    """The invariant does not hold for *data*."""

    def __init__(self, data: bytes) -> None:
        super().__init__(f"{len(data)} bytes, {data[:500]!r}")
        self.data = data


def fuzz(
    target: Target,
    corpus: Sequence[bytes],
    *,
    tokens: Sequence[bytes],
    seed: int,
    is_enough: Callable[[int], bool],
) -> tuple[int, int]:
    """
    Try the corpus, then mutations of it until that many are enough.

    The same seed tries the same inputs, as long as target and corpus are the same.

    Returns:
        How many inputs were tried, and how many outcomes there were.

    Raises:
        Finding: At the first input for which the target raises.
    """
    chance = random.Random(seed)
    known, outcomes = list(corpus), {_try(target, data) for data in corpus}
    tried = len(known)
    while not is_enough(tried):
        data = mutated(chance, known, tokens)
        outcome = _try(target, data)
        tried += 1
        if outcome not in outcomes and len(known) < _MOST_KEPT:
            outcomes.add(outcome)
            known.append(data)
    return tried, len(outcomes)


def mutated(chance: random.Random, corpus: Sequence[bytes], tokens: Sequence[bytes]) -> bytes:
    """Return one of *corpus* with a few of its bytes changed, lost, doubled or come from others."""
    data = bytearray(chance.choice(corpus))
    for _ in range(chance.choice([1, 1, 1, 2, 3, 8])):
        start = chance.randrange(len(data) + 1)
        end = min(len(data), start + chance.choice([1, 1, 2, 5, 20, 200]))
        change = chance.randrange(6)
        if change == 0:
            data[start:end] = chance.randbytes(end - start)
        elif change == 1:
            del data[start:end]
        elif change == 2:
            data[start:start] = data[start:end] * chance.choice([1, 1, 2, 100])
        elif change == 3:
            data[start:end] = chance.choice(tokens)
        elif change == 4:
            data[start:start] = chance.choice(tokens)
        else:
            other = chance.choice(corpus)
            cut = chance.randrange(len(other) + 1)
            data[start:end] = other[cut : cut + end - start + chance.randrange(50)]
    return bytes(data[: max(_MOST_BYTES, len(corpus[0]))])


def _try(target: Target, data: bytes) -> Hashable:
    try:
        return target(data)
    except Exception as error:
        raise Finding(data) from error


def main(target: Target, corpus: Sequence[bytes], *, tokens: Sequence[bytes]) -> None:
    """Run a target from the command line; the exit code is 1 when something was found."""
    parser = argparse.ArgumentParser(description=sys.modules[target.__module__].__doc__)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    asked = parser.parse_args()
    print(f"seed {asked.seed}")
    end = time.monotonic() + asked.seconds
    tried, outcomes = fuzz(
        target,
        corpus,
        tokens=tokens,
        seed=asked.seed,
        is_enough=lambda tried: time.monotonic() >= end,
    )
    print(f"{tried:,} inputs, {outcomes} outcomes, nothing found")
