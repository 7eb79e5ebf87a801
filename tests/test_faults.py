"""A sweep that was killed, stopped, or ran out of disk or memory is finished by launching it again: to the bit."""

import io
import json
import os
import random
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import torch

from src.runs.folder import RunFolder
from src.sweeps.jobs import Job, jobs
from src.training.classifier import Classifier
from tests.conftest import TINY, Run
from tests.launched import run, start

resource = pytest.importorskip("resource", reason="kills, forks and limits processes, as POSIX systems can")

# To try longer: KILLS=100 AVERAGE=swa python -m pytest -n 0 tests/test_faults.py
KILLS, AVERAGE = int(os.environ.get("KILLS", "3")), os.environ.get("AVERAGE", "ema")
# Three jobs of two epochs, of four batches each, saved after every batch.
SWEEP = (*TINY, "sweep=s", "checkpoint_minutes=0", "optim=sgd,adam,adamw", f"average={AVERAGE}", "--multirun")
PLACE = Path("logs/train/sweeps/s")


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    cwd = tmp_path_factory.mktemp("undisturbed")
    assert run(cwd, *SWEEP) == 0  # the first one also waits for the process to fork from
    begin = time.monotonic()
    again = tmp_path_factory.mktemp("timed")
    assert run(again, *SWEEP) == 0
    seconds = time.monotonic() - begin
    assert trained(cwd) == trained(again)
    return {"seconds": seconds, "trained": trained(cwd)}


def trained(cwd: Path) -> dict[str, Any]:
    """Weights and metrics of a finished sweep, job by job: what it must come to, however it was disturbed."""
    found = {}
    for job in jobs(cwd / PLACE):
        assert job.state == "completed" and job.folder is not None and job.error is None
        result = Run(0, "", "", job.folder)
        found[job.name] = (result.trained(), result.results["metrics"], result.results["best_epoch"])
        kept = sorted(file.name for file in job.folder.rglob("*") if file.is_file() and ".hydra" not in file.parts)
        assert kept == [
            ".lock",
            "best.ckpt",
            "last.ckpt",
            "metrics.csv",
            "results.json",
            "test_outcomes.npz",
            "train.log",
        ]
    return found


def completed(cwd: Path) -> dict[str, Any]:
    """Results of the jobs that have completed."""
    found = jobs(cwd / PLACE) if (cwd / PLACE).exists() else []
    return {job.name: job.results for job in found if job.state == "completed"}


def the(optim: str, cwd: Path) -> Job:
    (job,) = (job for job in jobs(cwd / PLACE) if f"optim={optim}," in f"{job.name},")
    return job


def told(cwd: Path) -> str:
    return (cwd / "out").read_text()


# ------------------------------------------------------------------------------------------------------------
# Killed
# ------------------------------------------------------------------------------------------------------------


def test_killed_at_random_moments(undisturbed: dict[str, Any], tmp_path: Path) -> None:
    moments, kills = random.Random(0), 0
    for number in count():
        cwd, finished = tmp_path / str(number), {}
        cwd.mkdir()
        while True:
            process = start(cwd, *SWEEP)
            process.join(moments.uniform(0, undisturbed["seconds"]) if kills < KILLS else 120)
            if process.exitcode is None:
                process.kill()
                process.join()
                kills += 1
            now = completed(cwd)
            assert finished.items() <= now.items()  # nothing finished is lost, or done again
            finished = now
            if process.exitcode == 0:
                break
            assert process.exitcode == -signal.SIGKILL
        assert trained(cwd) == undisturbed["trained"]
        if kills >= KILLS:
            return


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def die_writing(writer: str, number: int) -> None:
    """Be killed half-way through the ``number``-th file, from 0, that ``torch.save`` or ``json.dump`` writes."""
    module, name = {"torch.save": (torch, "save"), "json.dump": (json, "dump")}[writer]
    write, calls = getattr(module, name), count()

    def half(content: Any, file: Any, **options: Any) -> None:
        if next(calls) < number:
            return write(content, file, **options)
        whole = io.BytesIO() if writer == "torch.save" else io.StringIO()
        write(content, whole, **options)
        file.write(whole.getvalue()[: len(whole.getvalue()) // 2])
        file.flush()
        return die()

    setattr(module, name, half)


def die_moving(name: str, number: int, *, after: bool) -> None:
    """Be killed before or after a file is moved to ``name``, for the ``number``-th time, from 0."""
    move, calls = os.replace, count()

    def moved(source: Any, target: Any, **options: Any) -> None:
        last = Path(target).name == name and next(calls) == number
        if last and not after:
            die()
        move(source, target, **options)
        if last:
            die()

    os.replace = moved


WINDOWS = {
    "while sweep.json is written": partial(die_writing, "json.dump", 0),
    "while a job takes its folder": partial(die_writing, "json.dump", 1),
    "while the first checkpoint is written": partial(die_writing, "torch.save", 0),
    "between the last checkpoint and the one before": partial(die_moving, "previous.ckpt", 0, after=True),
    "while a later checkpoint is written": partial(die_writing, "torch.save", 1),
    "after an epoch's row, before its checkpoint": partial(die_moving, "metrics.csv", 0, after=True),
    "between the best checkpoint and the last": partial(die_moving, "best.ckpt", 0, after=True),
    "before the result is in place": partial(die_moving, "results.json", 4, after=False),
    "before it is called completed": partial(die_moving, "results.json", 5, after=False),
    "after it was called completed": partial(die_moving, "results.json", 5, after=True),
}


def test_killed_while_files_are_being_written(undisturbed: dict[str, Any], tmp_path: Path) -> None:
    for where, fault in WINDOWS.items():
        assert run(tmp_path, *SWEEP, fault=fault) == -signal.SIGKILL, where
    assert "sgd" in str(completed(tmp_path))
    assert run(tmp_path, *SWEEP) == 0
    assert trained(tmp_path) == undisturbed["trained"]


# ------------------------------------------------------------------------------------------------------------
# Damaged
# ------------------------------------------------------------------------------------------------------------


def at(optim: str, step: int, what: Any) -> None:
    """Call ``what`` when the job with this optimiser begins this step, from 0."""
    original = Classifier.training_step

    def training_step(self: Classifier, *batch: Any) -> Any:
        if type(self.trainer.optimizers[0]).__name__.lower() == optim and self.global_step == step:
            what()
        return original(self, *batch)

    Classifier.training_step = training_step  # type: ignore[method-assign]


@pytest.mark.parametrize(
    ("names", "damage", "start"),
    [
        pytest.param(["last"], "truncated", "the checkpoint before it", id="last"),
        pytest.param(["last"], "one bit", "the checkpoint before it", id="one bit of last", marks=pytest.mark.slow),
        pytest.param(["last", "previous"], "truncated", "the beginning", id="both", marks=pytest.mark.slow),
        pytest.param(["best"], "truncated", "the beginning", id="best", marks=pytest.mark.slow),
    ],
)
def test_a_damaged_checkpoint(
    undisturbed: dict[str, Any], tmp_path: Path, names: list[str], damage: str, start: str
) -> None:
    assert run(tmp_path, *SWEEP, fault=partial(at, "adam", 6, die)) == -signal.SIGKILL
    checkpoints = tmp_path / PLACE / f"average={AVERAGE},model=simplecnn,optim=adam" / "checkpoints"
    for name in names:
        file = checkpoints / f"{name}.ckpt"
        content = bytearray(file.read_bytes())
        content[len(content) // 2] ^= 1
        file.write_bytes(content if damage == "one bit" else content[:-100])
    (tmp_path / "out").unlink()
    assert run(tmp_path, *SWEEP) == 0
    warnings = [line.strip() for line in told(tmp_path).splitlines() if "is missing or damaged" in line]
    assert warnings[-1].endswith(f"{names[-1]}.ckpt is missing or damaged: going on from {start}.")
    assert "last.ckpt is kept as last.ckpt.damaged." in told(tmp_path)
    assert trained(tmp_path) == undisturbed["trained"]


# ------------------------------------------------------------------------------------------------------------
# Stopped, or out of memory or disk
# ------------------------------------------------------------------------------------------------------------


def a_bug() -> None:
    raise KeyError("a bug")


def too_much_memory() -> None:
    torch.empty(1 << 50)


def misfortunes() -> None:
    at("sgd", 5, a_bug)
    at("adam", 5, too_much_memory)
    at("adamw", 5, partial(signal.raise_signal, signal.SIGINT))


def test_an_error_no_memory_ctrl_c_and_sigterm(undisturbed: dict[str, Any], tmp_path: Path) -> None:
    assert run(tmp_path, *SWEEP, fault=misfortunes) == 128 + signal.SIGINT
    assert [job.state for job in jobs(tmp_path / PLACE)] == ["failed", "failed", "interrupted"]
    assert str(the("sgd", tmp_path).error).startswith("KeyError: 'a bug' (test_faults.py, line ")
    memory = f"Out of memory ({4 << 50} bytes more were needed): choose a smaller data.batch_size"
    assert the("adam", tmp_path).error == f"{memory} or data.eval_batch_size."
    assert the("adamw", tmp_path).error == "interrupted by the user"
    assert "Traceback" not in told(tmp_path)

    sigterm = partial(at, "adamw", 7, partial(signal.raise_signal, signal.SIGTERM))
    assert run(tmp_path, *SWEEP, fault=sigterm) == 128 + signal.SIGTERM
    assert [job.state for job in jobs(tmp_path / PLACE)] == ["completed", "completed", "interrupted"]
    assert the("adamw", tmp_path).error == "terminated (SIGTERM)"
    assert run(tmp_path, *SWEEP) == 0
    assert trained(tmp_path) == undisturbed["trained"]


@contextmanager
def small_disk(folder: Path, size: str) -> Iterator[None]:
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("a small disk can only be mounted by root")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.mark.slow
def test_a_full_disk(undisturbed: dict[str, Any], tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    with small_disk(disk, "4m"):
        assert run(disk, *SWEEP) == 1
        assert "No space left on device" in told(disk) and "Traceback" not in told(disk)
        finished = completed(disk)
        subprocess.run(["mount", "-o", "remount,size=64m", str(disk)], check=True)
        assert run(disk, *SWEEP) == 0
        assert finished.items() <= completed(disk).items()
        assert trained(disk) == undisturbed["trained"]


def small_files() -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, resource.RLIM_INFINITY))


@pytest.mark.slow
def test_a_checkpoint_that_cannot_be_written(undisturbed: dict[str, Any], tmp_path: Path) -> None:
    assert run(tmp_path, *SWEEP, fault=small_files) == 1
    for job in jobs(tmp_path / PLACE):
        assert job.state == "failed" and "File too large" in str(job.error)
    assert not list(tmp_path.rglob("*.part"))
    assert run(tmp_path, *SWEEP) == 0
    assert trained(tmp_path) == undisturbed["trained"]


# ------------------------------------------------------------------------------------------------------------
# Two at once
# ------------------------------------------------------------------------------------------------------------


def test_two_launches_share_the_work(undisturbed: dict[str, Any], tmp_path: Path) -> None:
    processes = [start(tmp_path, *SWEEP) for _ in range(2)]
    for process in processes:
        process.join(120)
    assert 0 in {process.exitcode for process in processes} <= {0, 1}
    assert told(tmp_path).count("epoch 1/2") == told(tmp_path).count("epoch 2/2") == 3
    # A job of the other launch is passed over, unless it ends within the second that is waited for it.
    assert "is being run by process" in told(tmp_path) or "completed before" in told(tmp_path)
    assert trained(tmp_path) == undisturbed["trained"]


def leave_a_child_and_stop() -> None:
    def stop() -> None:
        if os.fork() == 0:
            time.sleep(20)
            os._exit(0)
        os.kill(os.getpid(), signal.SIGSTOP)

    at("sgd", 5, stop)


@pytest.mark.slow
def test_a_run_is_held_by_one_process_for_as_long_as_it_lives(undisturbed: dict[str, Any], tmp_path: Path) -> None:
    process = start(tmp_path, *SWEEP, fault=leave_a_child_and_stop)
    folder = RunFolder(tmp_path / PLACE / f"average={AVERAGE},model=simplecnn,optim=sgd")
    for _ in range(600):
        if folder.last.exists() and torch.load(folder.last, weights_only=True)["global_step"] == 5:
            break
        time.sleep(0.1)
    assert the("sgd", tmp_path).state == "running" and folder.is_locked()
    # Another launch passes it over, and resuming it is refused.
    assert run(tmp_path, *SWEEP) == 1
    assert [job.state for job in jobs(tmp_path / PLACE)] == ["running", "completed", "completed"]
    assert run(tmp_path, f"resume={folder.path}") == 1
    assert told(tmp_path).count(f"is being run by {folder.results()['process']}.\n") == 2

    process.kill()
    process.join()
    assert the("sgd", tmp_path).state == "interrupted" and not folder.is_locked()
    assert run(tmp_path, *SWEEP) == 0
    assert trained(tmp_path) == undisturbed["trained"]
