"""Taking turns at the clock, and what comes of it."""

import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any, Literal

import torch

from src.runs.provenance import device_name, versions

# A contender: does so many steps of its work and returns the seconds that took.
Contender = Callable[[int], float]


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Args:
        work: what was done.
        unit: of ``ours`` and ``against``.
        ours: every repeat's value.
        other: what it is compared with; None where a value stands for itself.
        against: the values of that, repeat by repeat.
        goal: bound on the ratio of the two, or on the value where there is nothing to compare with.
        bound: whether the goal is a least or a most.
        note: anything that must be known to read the row.
    """

    work: str
    unit: str
    ours: list[float]
    other: str | None = None
    against: list[float] = field(default_factory=list)
    goal: float | None = None
    bound: Literal["≥", "≤"] = "≥"
    note: str = ""

    @property
    def ratios(self) -> list[float]:
        """Ours to theirs, repeat by repeat: what slows the machine for a while slows both. Empty without theirs."""
        if not self.against:
            return []
        return [ours / against for ours, against in zip(self.ours, self.against, strict=True)]

    @property
    def met(self) -> bool | None:
        """Whether the median reaches the goal; None where there is none."""
        if self.goal is None:
            return None
        reached = median(self.ratios or self.ours)
        return reached >= self.goal if self.bound == "≥" else reached <= self.goal

    def to_json(self) -> dict[str, Any]:
        names = ("work", "unit", "ours", "other", "against", "goal", "bound", "note")
        derived = {"ratio": median(self.ratios) if self.against else None, "met": self.met}
        return {name: getattr(self, name) for name in names} | derived


def seconds_of(work: Callable[[], Any], device: str = "cpu") -> float:
    """How long ``work`` takes, until the device is done with it."""
    wait_for(device)
    start = time.perf_counter()
    work()
    wait_for(device)
    return time.perf_counter() - start


def wait_for(device: str) -> None:
    """A GPU works on while Python goes ahead: let it finish."""
    if device == "cuda":
        torch.cuda.synchronize()


def machine(device: str) -> dict[str, Any]:
    """The machine, and what of it is used."""
    return {
        "device": device_name(torch.device(device)),
        "processors": os.cpu_count(),
        "threads": torch.get_num_threads(),
        **{name: version for name, version in versions().items() if name in ("python", "torch", "lightning")},
    }


def peak_memory() -> int:
    """The largest size that this process has had in main memory, in bytes.

    Linux's ``ru_maxrss`` would include that of the process which started it.
    """
    status = Path("/proc/self/status")
    if status.exists():
        (line,) = (line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024
    import resource  # Windows has neither

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def take_turns(
    contenders: Mapping[str, Contender], steps: Mapping[str, int], repeats: int, tick: Callable[[], None]
) -> dict[str, list[float]]:
    """Let everyone do its steps, A B A B, after a first turn that does not count.

    Args:
        contenders: by name.
        steps: of each, in a turn.
        repeats: how many turns count.
        tick: called after every turn of all.

    Returns:
        Steps a second, one number a turn.
    """
    rates: dict[str, list[float]] = {name: [] for name in contenders}
    for turn in range(repeats + 1):
        for name, run in contenders.items():
            rate = steps[name] / run(steps[name])
            if turn > 0:
                rates[name].append(rate)
        tick()
    return rates


class OwnProcess:
    """A contender that lives in a process of its own, so that no setting of ours reaches it.

    Args:
        make: makes the contender, over there; a function of a module.
        arguments: for it; they are pickled.
    """

    def __init__(self, make: Callable[..., Contender], *arguments: Any) -> None:
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=serve, args=(theirs, make, arguments))

    def __enter__(self) -> Contender:
        # Ctrl-C is for the one who ends this process. What is ignored when a process begins stays ignored in it.
        former = signal.signal(signal.SIGINT, signal.SIG_IGN)
        self._process.start()
        signal.signal(signal.SIGINT, former)
        return self._run

    def __exit__(self, *_: Any) -> None:
        if self._process.is_alive():
            self._connection.send(None)
            self._process.join(timeout=10)
        self._process.terminate()
        self._process.join()

    def _run(self, steps: int) -> float:
        self._connection.send(steps)
        while not self._connection.poll(1):
            if not self._process.is_alive():
                raise RuntimeError("The process that runs the plain reference has died; was there enough memory?")
        answer = self._connection.recv()
        if isinstance(answer, Exception):
            raise answer
        return answer


def serve(connection: Any, make: Callable[..., Contender], arguments: tuple[Any, ...]) -> None:
    """The other process: a number of steps comes in, the seconds they took go out."""
    try:
        run = make(*arguments)
        while (steps := connection.recv()) is not None:
            connection.send(run(steps))
    except EOFError:
        return
    except Exception as error:
        connection.send(RuntimeError(f"The plain reference failed: {type(error).__name__}: {error}"))
