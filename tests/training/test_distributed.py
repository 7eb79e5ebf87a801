"""One run in two processes: the result of one, whatever becomes of them, alone and in a multirun."""

import contextlib
import json
import math
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from src.runs.folder import RunFolder
from src.runs.outcomes import load_outcomes
from tests.conftest import Run
from tests.launched import ROOT

pytestmark = pytest.mark.skipif(
    "forkserver" not in multiprocessing.get_all_start_methods(), reason="this system starts no training processes"
)

Launch = Callable[..., Any]

# 5 batches an epoch, the last one of 15 images, shared 8 to 7; 359 test images, shared 180 to 179.
TINY = (
    "data=digits",
    "data.image_size=8",
    "data.train_size=215",
    "data.batch_size=50",
    "data.eval_batch_size=30",
    "model=simplecnn",
    "aug=trivialaugment",
    "trainer=ddp",
    "trainer.accelerator=cpu",
    "trainer.max_epochs=2",
    "trainer.log_every_n_steps=1",
    "callbacks=signals",
)


def assert_equal(run: Any, reference: Any) -> None:
    """Weights and metrics to 1e-6: sums in another order are all that may differ."""
    state, expected = run.checkpoint()["state_dict"], reference.checkpoint()["state_dict"]
    for name, value in expected.items():
        torch.testing.assert_close(state[name], value, rtol=1e-6, atol=1e-6, msg=name)
    assert len(run.rows) == len(reference.rows)
    for row, expected_row in zip(run.rows, reference.rows, strict=True):
        for name in ("epoch", "step", "train/loss", "train/accuracy", "val/loss", "val/accuracy"):
            assert math.isclose(float(row[name]), float(expected_row[name]), rel_tol=1e-5), name
    metrics, expected_metrics = run.results["metrics"], reference.results["metrics"]
    assert metrics.keys() == expected_metrics.keys()
    assert metrics["test/accuracy"] == expected_metrics["test/accuracy"]
    assert math.isclose(metrics["test/loss"], expected_metrics["test/loss"], rel_tol=1e-5)
    outcomes, expected_outcomes = (load_outcomes(RunFolder(each.folder).outcomes_file) for each in (run, reference))
    assert (outcomes.label == expected_outcomes.label).all()
    assert np.allclose(outcomes.probability, expected_outcomes.probability, atol=1e-5)


@pytest.fixture(autouse=True)
def importable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Processes find the code from any folder."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))


@pytest.fixture
def train(train_as_given: Launch) -> Launch:
    return lambda *arguments: train_as_given(*TINY, *arguments)


@pytest.fixture(scope="module")
def alone(launch_as_given_in: Launch) -> Any:
    return launch_as_given_in(*TINY, "trainer.devices=1", "seed=1")


def meanwhile(event: Callable[[], bool], do: Callable[[], None]) -> threading.Thread:
    """Do something, in a thread, as soon as ``event`` is seen."""

    def wait() -> None:
        until = time.monotonic() + 120
        while not event() and time.monotonic() < until:
            time.sleep(0.005)
        do()

    thread = threading.Thread(target=wait, daemon=True)
    thread.start()
    return thread


@pytest.mark.slow
def test_a_multirun_of_two_processes_each_ends_as_one_process_would(alone: Any, train: Launch, tmp_path: Path) -> None:
    sweep = train("trainer.devices=2", "seed=1,2", "sweep=both", "--multirun")
    assert sweep.code == 0 and "2 of 2 jobs completed." in sweep.out
    folders = sorted(file.parent for file in tmp_path.rglob("results.json"))
    assert len(folders) == 2
    runs = [type(alone)(0, "", "", folder) for folder in folders]
    assert_equal(runs[0], alone)
    assert [run.results["processes"] for run in (*runs, alone)] == [2, 2, 1]
    assert runs[1].results["seed"] == 2 and "test/accuracy" in runs[1].results["metrics"]
    assert runs[0].results["verdict"] == alone.results["verdict"]
    assert (runs[0].folder / "signals.csv").read_text().count("\n") == (alone.folder / "signals.csv").read_text().count(
        "\n"
    )
    for run in runs:
        assert run.log.count("epoch 1/2") == run.log.count("epoch 2/2") == 1
        assert len(list(run.folder.glob("events*"))) == len(list(alone.folder.glob("events*"))) > 0


@pytest.mark.slow
def test_a_run_that_is_interrupted_goes_on_in_two_processes_and_in_one(
    train: Launch, resume: Launch, tmp_path: Path
) -> None:
    reference = train("trainer.devices=2", "seed=1", "trainer.max_epochs=20")
    folder = tmp_path / "run"
    meanwhile((folder / "metrics.csv").exists, lambda: os.kill(os.getpid(), signal.SIGINT))
    stopped = train("trainer.devices=2", "seed=1", "trainer.max_epochs=20", f"hydra.run.dir={folder}")
    assert stopped.code == 130
    assert json.loads((folder / "results.json").read_text())["status"] == "interrupted"
    step = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)["global_step"]
    assert 0 < step < 100
    both, one = tmp_path / "both", tmp_path / "one"
    for copy in (both, one):
        shutil.copytree(folder, copy)
    assert_equal(resume(both), reference)
    assert_equal(resume(one, "trainer.devices=1"), reference)


def test_a_process_that_dies_ends_the_run_in_a_sentence(train: Launch, tmp_path: Path) -> None:
    folder = tmp_path / "run"

    def kill() -> None:
        worker = max(multiprocessing.active_children(), key=lambda child: (len(child.name), child.name))
        os.kill(worker.pid or 0, signal.SIGKILL)

    meanwhile((folder / "metrics.csv").exists, kill)
    run = train("trainer.devices=2", "trainer.max_epochs=1000", f"hydra.run.dir={folder}")
    assert run.code == 1
    assert run.err == "process 1 of 2 was killed by SIGKILL, as the system does when memory runs out\n"
    results = json.loads((folder / "results.json").read_text())
    assert results["status"] == "failed" and "process 1 of 2 was killed" in results["error"]
    assert not multiprocessing.active_children()


def descendants(pid: int) -> dict[str, int]:
    """All processes below one, by what they are."""
    parents = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            parents[int(stat.parent.name)] = int(stat.read_text().rpartition(")")[2].split()[1])
    found = {}
    for child in sorted(child for child, parent in parents.items() if parent == pid):
        command = Path(f"/proc/{child}/cmdline").read_text()
        (kind,) = (name for name in ("resource_tracker", "forkserver") if f"multiprocessing.{name} import" in command)
        found[kind] = child
        found |= {f"worker {n}": worker for n, worker in enumerate(sorted(c for c, p in parents.items() if p == child))}
    return found


def wait_until(condition: Callable[[], Any], seconds: float = 120) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.05)


HELPERS = ("resource_tracker", "forkserver")


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="processes are looked up in /proc")
@pytest.mark.slow
def test_whichever_process_dies_the_run_ends_in_seconds_and_goes_on_when_it_is_launched_again(
    train: Launch, tmp_path: Path
) -> None:
    sweep = ("trainer.devices=2", "seed=1,2,3,4", "trainer.max_epochs=15", "callbacks=none", "logger=none")
    place = tmp_path / "logs" / "train" / "sweeps"
    command = [sys.executable, "-m", "src.train", *TINY, *sweep, "sweep=killed", "--multirun"]
    jobs = [RunFolder(place / "killed" / f"aug=trivialaugment,model=simplecnn,seed={seed}") for seed in range(1, 5)]
    with (tmp_path / "out").open("w") as out:
        main = subprocess.Popen(command, cwd=tmp_path, stdout=out)

    def end(job: RunFolder, kinds: Sequence[str], by: int) -> None:
        wait_until(job.metrics_file.exists)
        processes = descendants(main.pid)
        assert processes.keys() == {*HELPERS, "worker 0", "worker 1"}  # another kind of process has to be tried as well
        for kind in kinds:
            os.kill(({"main": main.pid} | processes)[kind], by)
        wait_until(lambda: main.poll() is not None or job.results()["status"] != "running", 15)
        wait_until(lambda: not Path(f"/proc/{processes['worker 0']}").exists(), 5)
        assert "Traceback" not in (tmp_path / "out").read_text()

    for job, kind in zip(jobs, (*HELPERS, "worker 0"), strict=False):
        end(job, [kind], signal.SIGKILL)
        error = (
            "a helper process of this run was killed" if "worker" not in kind else f"process {kind[-1]} of 2 was killed"
        )
        assert job.results()["status"] == "failed" and error in job.results()["error"]
    end(jobs[3], ["forkserver", "main", "worker 0", "worker 1"], signal.SIGTERM)  # as Slurm does
    assert main.wait() == 128 + signal.SIGTERM and jobs[3].results()["error"] == "terminated (SIGTERM)"

    assert train(*sweep, "sweep=killed", "--multirun").code == 0
    assert all(job.results()["status"] == "completed" for job in jobs)
    assert train(*sweep, "seed=1,2", "sweep=undisturbed", "--multirun").code == 0
    for job in jobs[:2]:
        run, reference = (Run(0, "", "", place / name / job.path.name) for name in ("killed", "undisturbed"))
        assert_equal(run, reference)


def test_a_system_without_a_forkserver_gets_a_sentence(train: Launch, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(multiprocessing, "get_all_start_methods", lambda: ["spawn"])  # as on Windows
    run = train("trainer.devices=2")
    assert run.code == 1 and run.err.count("\n") == 1
    assert run.err.startswith("trainer.devices asks for 2 processes, which this system cannot start")


def test_what_fails_in_every_process_is_told_once(train: Launch, tmp_path: Path) -> None:
    run = train("trainer.devices=2", "optim.lr=1e30", "optim=sgd")
    assert run.code == 1
    assert run.err.startswith("The loss became nan") and run.err.count("\n") == 1
    assert run.results["error"] == run.err.strip() and "In process" in run.log and "training_step" in run.log


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        (
            "trainer.devices=3",
            "data.batch_size is 50, the images of one step, which 3 processes cannot share equally; ",
        ),
        ("trainer.devices=auto", "trainer.devices is auto, but there is no GPU to count"),
        ("trainer.devices=0", "trainer.devices is 0; expected 1 or more"),
        ("trainer.num_nodes=2", "trainer.devices and trainer.num_nodes=2 ask for 2 processes, but 1 started"),
    ],
)
def test_a_wrong_number_of_processes_gets_a_sentence(train: Launch, override: str, sentence: str) -> None:
    run = train("trainer.devices=1" if "devices" not in override else "seed=1", override)
    assert run.code == 1 and run.err.startswith(sentence) and run.err.count("\n") == 1
