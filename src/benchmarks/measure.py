"""Interleaved timing of contenders within a budget of time, and the rows of the result."""

import gc
import multiprocessing
import os
import signal
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from itertools import accumulate
from math import inf
from statistics import median
from time import monotonic
from timeit import timeit
from typing import Any, Literal, NamedTuple

import torch
from torch.utils.benchmark import timer  # synchronises a GPU

from src.runs.escaping import plural
from src.runs.provenance import device_name, versions

# A contender does its work and returns the seconds that a step of it took.
Contender = Callable[[], float]


class Row(NamedTuple):
    """One line of the table."""

    work: str  # what was done
    unit: str  # of ``ours`` and ``against``
    ours: list[float]  # every repeat's value
    other: str | None = None  # the competitor; None without a comparison
    against: Sequence[float] = ()  # the competitor's value of every repeat
    goal: float | None = None  # of the ratio of the two, or of the value without a comparison
    bound: Literal["≥", "≤"] = "≥"  # whether the goal is a minimum or a maximum
    note: str = ""  # remarks needed to understand the row

    @property
    def ratios(self) -> list[float]:
        """Ours to theirs, per repeat, so that a slow phase of the machine affects both. Empty without a competitor."""
        return [ours / against for ours, against in zip(self.ours, self.against, strict=True)] if self.against else []

    @property
    def met(self) -> bool | None:
        """Whether the median reaches the goal; None without a goal."""
        if self.goal is None:
            return None
        reached = median(self.ratios or self.ours)
        return reached >= self.goal if self.bound == "≥" else reached <= self.goal

    def to_json(self) -> dict[str, Any]:
        return self._asdict() | {"ratio": median(self.ratios) if self.against else None, "met": self.met}


def machine(device: str) -> dict[str, Any]:
    """The machine, and the parts of it that are used."""
    return {
        "device": device_name(torch.device(device)),
        "processors": os.cpu_count(),
        "threads": torch.get_num_threads(),
        **{name: version for name, version in versions().items() if name in ("python", "torch", "lightning")},
    }


class Turns:
    """The turns of a part: one to warm up, which does not count, then 1 to ``repeats``.

    Args:
        repeats: how many count at most.
        until: none begins that would end after this ``monotonic()`` if it took as long as the one before.

    Attributes:
        counted: how many counted.
    """

    def __init__(self, repeats: int, until: float = inf) -> None:
        self.repeats, self.until, self.counted = repeats, until, 0

    def __iter__(self) -> Iterator[int]:
        for turn in range(self.repeats + 1):
            self.counted = turn
            began = monotonic()
            yield turn
            now = monotonic()
            if turn and 2 * now - began > self.until:
                return


class Part(NamedTuple):
    """Rows that are measured together, and the seconds that they take on the machine of README.md."""

    what: str
    least: float  # with a single repeat
    more: float  # for each further one
    measure: Callable[[Turns], list[Row]]


class Schedule:
    """Divides the time among parts, the cheapest first; the costliest are left out if there is too little.

    Every part gets what a single repeat takes; the rest is shared so that all can have the same number of repeats.

    Args:
        repeats: of each part, at most.
        minutes: for all of it; None for as long as it takes.
        pace: seconds that this machine takes for what takes a second on the machine of README.md. It is corrected
            after each part.

    Attributes:
        unmeasured: the parts that have not been begun.
    """

    def __init__(self, parts: Iterable[Part], repeats: int, minutes: float | None, pace: float) -> None:
        self.unmeasured, self.repeats, self.pace = sorted(parts, key=lambda part: part.least), repeats, pace
        self.end = inf if minutes is None else monotonic() + 60 * minutes

    def __iter__(self) -> Iterator[tuple[Part, Turns]]:
        planned, taken = 1.0, self.pace
        while fitting := self._fitting():
            began, part = monotonic(), fitting[0]
            spare = self.end - began - self.pace * sum(each.least for each in fitting)
            share = spare * part.more / sum(each.more for each in fitting) if part.more else 0
            self.unmeasured.remove(part)
            turns = Turns(self.repeats, began + self.pace * part.least + share)
            yield part, turns
            planned += part.least + (turns.counted - 1) * part.more
            taken += monotonic() - began
            self.pace = taken / planned

    def _fitting(self) -> list[Part]:
        needed = accumulate(self.pace * part.least for part in self.unmeasured)
        left = self.end - monotonic()
        return [part for part, seconds in zip(self.unmeasured, needed, strict=True) if seconds <= left]

    def estimate(self) -> str:
        """How long ``unmeasured`` will take, and what of it must be left out or repeated less, in words."""
        if not self.unmeasured:
            return "nothing more"
        fitting, left = self._fitting(), self.end - monotonic()
        wanted = self.pace * sum(part.least + (self.repeats - 1) * part.more for part in fitting)
        text = f"about {min(wanted, left) / 60:.2g} minutes for {plural(len(fitting), 'part')}"
        text += f", with fewer than {self.repeats} repeats" if wanted > left else ""
        left_out = [part.what for part in self.unmeasured[len(fitting) :]]
        return text + (f", without {'; '.join(left_out)}" if left_out else "")


def timed(step: Callable[[], Any], steps: int) -> Contender:
    """A contender that calls ``step`` and waits for the device; garbage collection stays on, as in use.

    ``torch.utils.benchmark.Timer`` would call it twice more before each turn, where many turns are a single step.
    """
    return lambda: timeit(step, gc.enable, timer, steps) / steps


def take_turns(contenders: Mapping[str, Contender], turns: Turns) -> dict[str, list[float]]:
    """Run all contenders in turn (A B A B).

    Returns:
        By name of the contender: seconds per step, one number per turn that counts.
    """
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in turns:
        for name, run in contenders.items():
            seconds[name].append(run())
    return {name: values[1:] for name, values in seconds.items()}


@contextmanager
def own_process(make: Callable[..., Contender], *arguments: Any) -> Iterator[Contender]:
    """The contender ``make(*arguments)`` in a separate process, which our settings do not affect."""
    try:
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
            # Ctrl-C is for the one who ends this process. What is ignored when a process begins stays ignored in it.
            former = signal.signal(signal.SIGINT, signal.SIG_IGN)
            made = pool.submit(_make, make, arguments)
            signal.signal(signal.SIGINT, former)
            made.result()
            yield lambda: pool.submit(_run).result()
    except BrokenProcessPool:
        raise ChildProcessError("The process of the plain reference has died; was there enough memory?") from None


_made: list[Contender] = []  # the one of a separate process


def _make(make: Callable[..., Contender], arguments: tuple[Any, ...]) -> None:
    _made.append(make(*arguments))


def _run() -> float:
    return _made[0]()
