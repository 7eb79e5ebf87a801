"""Weights & Biases offline and MLflow on a file: what they are told, and what becomes of their errors."""

import logging
import re
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

import src.train
from src.runs.folder import RunFolder
from src.training.loggers import build_loggers, logged
from tests.conftest import TINY, launch

mlflow = pytest.importorskip("mlflow")
wandb = pytest.importorskip("wandb")


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


def runs_of(cwd: Path) -> list[Any]:
    client = mlflow.tracking.MlflowClient(f"sqlite:///{cwd}/logs/mlflow.db")
    experiments = [experiment.experiment_id for experiment in client.search_experiments() if experiment.name == "s"]
    return client.search_runs(experiments)


def ids_of(cwd: Path) -> list[str]:
    return [folder.name.rpartition("-")[2] for folder in cwd.rglob("wandb/offline-run-*")]


def test_a_sweeps_runs_are_told_apart_closed_and_resumed(tmp_path: Path) -> None:
    words = ("tags=[a,b]", "notes='a try'", "logger=[mlflow,wandb,csv]", "trainer.max_epochs=1")
    sweep = launch(src.train.main, tmp_path, *TINY, "--multirun", "seed=1,2", "sweep=s", *words)
    assert sweep.code == 0, sweep.out
    runs = {run.data.params["seed"]: run for run in runs_of(tmp_path)}
    assert set(runs) == {"1", "2"} and {run.info.status for run in runs.values()} == {"FINISHED"}
    folder = next((tmp_path / "logs/train/sweeps/s").glob("*seed=1"))
    results = RunFolder(folder).results()
    assert runs["1"].info.run_name == folder.name and runs["1"].data.params["model"] == "simplecnn"
    assert runs["1"].data.metrics["test/accuracy"] == pytest.approx(results["metrics"]["test/accuracy"])
    tags = runs["1"].data.tags
    assert (tags["sweep"], tags["tags"], tags["mlflow.note.content"]) == ("s", "a, b", "a try")
    assert len(set(ids_of(tmp_path))) == 2 and wandb.run is None
    assert "test/accuracy" in (folder / "csv" / "metrics.csv").read_text()

    resumed = launch(src.train.main, tmp_path, f"resume={folder}", "trainer.max_epochs=2")
    assert resumed.code == 0, resumed.err
    again = {run.data.params["seed"]: run for run in runs_of(tmp_path)}
    assert len(again) == 2 and again["1"].info.run_id == runs["1"].info.run_id
    assert again["1"].data.metrics["epoch"] == 2
    assert sorted(map(ids_of(tmp_path).count, set(ids_of(tmp_path)))) == [1, 2]
    for version in ("csv", "csv-2"):  # Lightning's logger clears the folder of a former process
        assert "test/accuracy" in (folder / version / "metrics.csv").read_text()


@pytest.fixture
def chosen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], Any]:
    """``logger=mlflow`` for a run without anything else."""
    monkeypatch.chdir(tmp_path)
    folder = RunFolder(tmp_path / "run")
    folder.create()
    node = {"_target_": "lightning.pytorch.loggers.MLFlowLogger"}
    return lambda: (build_loggers(OmegaConf.create({"logger": {"mlflow": node}}), folder), folder)


def test_a_server_that_fails_in_mid_run_is_told_once_and_stops_nothing(
    chosen: Callable[[], Any], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    loggers, folder = chosen()
    with caplog.at_level(logging.WARNING), logged(loggers, folder):
        loggers[0].log_metrics({"loss": 1.0}, 0)
        with sqlite3.connect(tmp_path / "logs" / "mlflow.db") as database:
            for table in ("metrics", "latest_metrics"):
                database.execute(f"DROP TABLE {table}")
        loggers[0].log_metrics({"loss": 1.0}, 1)
        loggers[0].log_metrics({"loss": 1.0}, 2)
        loggers[0].finalize("success")
    told = [record.getMessage() for record in caplog.records if record.name == "src.training.loggers"]
    assert len(told) == 1 and re.match(r"logger=mlflow failed \(.*\); the run goes on without it\.", told[0], re.DOTALL)


def test_a_server_that_cannot_be_reached_at_the_start_gets_a_sentence(
    chosen: Callable[[], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")  # nothing listens there
    with pytest.raises(ValueError, match=r"logger=mlflow could not start: .*127\.0\.0\.1"):
        chosen()
