"""One grid, any engine: real jobs in real processes, whichever launcher starts them."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import hydra
import pytest
from hydra.core.plugins import Plugins
from hydra.plugins.launcher import Launcher
from joblib.externals.loky import get_reusable_executor

from tests.conftest import TINY

ROOT = Path(__file__).parents[2]

Launch = Callable[..., Any]


@pytest.fixture(autouse=True)
def importable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Processes of their own find the code, wherever they are started, and use one thread."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


def skip_without(launcher: str) -> None:
    if launcher not in {plugin.__name__ for plugin in Plugins.instance().discover(Launcher)}:
        pytest.skip(f"{launcher} is not installed, or does not load under Hydra {hydra.__version__}")


def results(cwd: Path) -> list[dict[str, Any]]:
    return [json.loads(file.read_text()) for file in sorted(cwd.glob("logs/train/sweeps/*/*/results.json"))]


def assert_two_jobs(run: Any, cwd: Path) -> None:
    assert run.code == 0, run.err
    assert "2 of 2 jobs completed." in run.out
    assert len(list(cwd.glob("logs/train/sweeps/*"))) == 1  # however many processes name it
    assert [(job["status"], job["seed"]) for job in results(cwd)] == [("completed", 1), ("completed", 2)]
    assert all("test/accuracy" in job["metrics"] and job["device"].endswith("CPU, 1 thread") for job in results(cwd))


@pytest.fixture
def own_workers() -> Iterator[None]:
    """joblib keeps its processes for the next call, in the folder in which they were started."""
    yield
    get_reusable_executor().shutdown()


@pytest.mark.slow
@pytest.mark.usefixtures("own_workers")
def test_joblib(train: Launch, tmp_path: Path) -> None:
    skip_without("JoblibLauncher")
    run = train("hydra/launcher=joblib", "hydra.launcher.n_jobs=2", "seed=1,2", "--multirun")
    assert_two_jobs(run, tmp_path)
    (sweep,) = tmp_path.glob("logs/train/sweeps/*")
    before = results(tmp_path)
    run = train("hydra/launcher=joblib", "hydra.launcher.n_jobs=2", "seed=1,2", f"sweep={sweep.name}", "--multirun")
    assert_two_jobs(run, tmp_path)
    assert results(tmp_path) == before


@pytest.mark.slow
@pytest.mark.usefixtures("own_workers")
def test_a_job_of_joblib_may_be_a_run_of_two_processes(train: Launch, tmp_path: Path) -> None:
    skip_without("JoblibLauncher")
    run = train(
        "hydra/launcher=joblib", "hydra.launcher.n_jobs=2", "trainer.devices=2", "seed=3", "sweep=two", "--multirun"
    )
    assert run.code == 0, run.out
    (result,) = (json.loads(file.read_text()) for file in tmp_path.glob("logs/train/sweeps/two/*/results.json"))
    assert result["status"] == "completed" and result["processes"] == 2 and "test/accuracy" in result["metrics"]


@pytest.mark.slow
def test_submitit_queues_a_job_again_that_was_told_to_stop(train: Launch, tmp_path: Path) -> None:
    skip_without("LocalLauncher")
    sweep = tmp_path / "logs" / "train" / "sweeps" / "mine"

    def preempt() -> None:
        until = time.monotonic() + 120
        while not list(sweep.glob("*/metrics.csv")) and time.monotonic() < until:
            time.sleep(0.01)
        for job in (sweep / ".submitit").glob("[0-9]*"):  # by the number of the process that stands for Slurm
            os.kill(int(job.name), signal.SIGTERM)

    threading.Thread(target=preempt, daemon=True).start()
    arguments = ("trainer.max_epochs=20", "callbacks=none", "logger=none")
    run = train("hydra/launcher=submitit_local", "seed=1,2", "sweep=mine", *arguments, "--multirun")
    assert_two_jobs(run, tmp_path)
    logs = "".join(file.read_text() for file in sweep.glob(".submitit/*/*.err"))
    assert "this job is preempted" in logs
    assert "SIGTERM: stopping" in "".join(file.read_text() for file in sweep.glob("*/train.log"))
    for metrics in sweep.glob("*/metrics.csv"):
        epochs = [int(line.split(",")[0]) for line in metrics.read_text().splitlines()[1:]]
        assert epochs == list(range(1, 21))


@pytest.mark.slow
def test_ray(train: Launch, tmp_path: Path) -> None:
    skip_without("RayLauncher")
    import ray

    try:
        run = train("hydra/launcher=ray", "+hydra.launcher.ray.init.num_cpus=2", "seed=1,2", "--multirun")
    finally:
        ray.shutdown()
    assert_two_jobs(run, tmp_path)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="processes are looked up in /proc")
def test_a_sweep_that_is_told_to_stop_leaves_no_process_of_joblibs_behind(tmp_path: Path) -> None:
    skip_without("JoblibLauncher")
    joblib = ("hydra/launcher=joblib", "hydra.launcher.n_jobs=2")
    command = [sys.executable, "-m", "src.train", *TINY, "trainer.max_epochs=200", *joblib, "seed=1,2", "--multirun"]
    main = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, text=True)
    while len(list(tmp_path.glob("logs/train/sweeps/*/*/metrics.csv"))) < 2:
        assert main.poll() is None
        time.sleep(0.1)
    children = [int(child) for child in Path(f"/proc/{main.pid}/task/{main.pid}/children").read_text().split()]
    main.terminate()
    out, _ = main.communicate(timeout=60)
    assert main.returncode == 128 + signal.SIGTERM and "To finish the sweep: python -m src.train" in out
    until = time.monotonic() + 60
    while any(Path(f"/proc/{child}").exists() for child in children):
        assert time.monotonic() < until, "a worker trains on"
        time.sleep(0.1)
