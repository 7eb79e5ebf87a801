"""Interleaved timing of contenders, and the rows of the result."""

import gc
import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from statistics import median
from timeit import timeit
from typing import Any, Literal

import torch
from torch.utils.benchmark import timer  # synchronises a GPU

from src.runs.provenance import device_name, versions

# A contender: takes a number of steps, does them, and returns the seconds that they took.
Contender = Callable[[int], float]
Tick = Callable[[], None]  # called after every turn of all contenders, for the progress bar


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    work: str  # what was done
    unit: str  # of ``ours`` and ``against``
    ours: list[float]  # every repeat's value
    other: str | None = None  # the competitor; None without a comparison
    against: list[float] = field(default_factory=list)  # the competitor's value of every repeat
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
        return asdict(self) | {"ratio": median(self.ratios) if self.against else None, "met": self.met}


def machine(device: str) -> dict[str, Any]:
    """The machine, and the parts of it that are used."""
    return {
        "device": device_name(torch.device(device)),
        "processors": os.cpu_count(),
        "threads": torch.get_num_threads(),
        **{name: version for name, version in versions().items() if name in ("python", "torch", "lightning")},
    }


def timed(step: Callable[[], Any]) -> Contender:
    """A contender that calls ``step`` and waits for the device; garbage collection stays on, as in use."""
    return lambda steps: timeit(step, gc.enable, timer, steps)


def take_turns(
    contenders: Mapping[str, Contender], steps: Mapping[str, int], repeats: int, tick: Tick
) -> dict[str, list[float]]:
    """Run all contenders in turn (A B A B), ``repeats`` times, after a warm-up turn that does not count.

    Returns:
        By name of the contender: steps per second, one number per turn.
    """
    rates: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(repeats + 1):
        for name, run in contenders.items():
            rates[name].append(steps[name] / run(steps[name]))
        tick()
    return {name: values[1:] for name, values in rates.items()}


@contextmanager
def own_process(make: Callable[..., Contender], *arguments: Any) -> Iterator[Contender]:
    """The contender ``make(*arguments)`` in a separate process, which our settings do not affect."""
    context = multiprocessing.get_context("spawn")
    connection, theirs = context.Pipe()
    process = context.Process(target=serve, args=(theirs, make, arguments))
    # Ctrl-C is for the one who ends this process. What is ignored when a process begins stays ignored in it.
    former = signal.signal(signal.SIGINT, signal.SIG_IGN)
    process.start()
    signal.signal(signal.SIGINT, former)
    theirs.close()  # so that the connection ends with the process

    def run(steps: int) -> float:
        try:
            connection.send(steps)
            answer = connection.recv()
        except (EOFError, OSError):
            raise RuntimeError("The process that runs the plain reference has died; was there enough memory?") from None
        if isinstance(answer, Exception):
            raise answer
        return answer

    try:
        yield run
    finally:
        with suppress(OSError):  # it has died
            connection.send(None)
        process.join(timeout=10)
        process.terminate()
        process.join()


def serve(connection: Any, make: Callable[..., Contender], arguments: tuple[Any, ...]) -> None:
    """The main function of that process: receives numbers of steps, sends the seconds that they took."""
    try:
        run = make(*arguments)
        while (steps := connection.recv()) is not None:
            connection.send(run(steps))
    except EOFError:
        return
    except Exception as error:
        connection.send(RuntimeError(f"The plain reference failed: {type(error).__name__}: {error}"))
