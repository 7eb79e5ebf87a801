"""A run that was stopped, however it was stopped, ends as if it had not been: to the bit."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from src.models.simplecnn import SimpleCNN
from src.training.classifier import Classifier

Launch = Callable[..., Any]

ROOT = Path(__file__).parents[2]
# Whatever is random or goes by the run's length. 7 batches an epoch, the last one smaller.
ARGUMENTS = ("trainer.max_epochs=3", "data.batch_size=30", "aug=trivialaugment", "schedule=onecycle")
STEPS = 7


class Noise(nn.Module):
    """Draws from the generators of numpy and Python, as networks of one's own may."""

    def forward(self, x: Tensor) -> Tensor:
        return x * (1 + np.random.rand() + random.random()) if self.training else x


@contextmanager
def dropout() -> Iterator[None]:
    """SimpleCNN draws random numbers of its own."""
    build = SimpleCNN.__init__

    def build_with_dropout(self: SimpleCNN, **arguments: Any) -> None:
        build(self, **arguments)
        self.fc = nn.Sequential(nn.Dropout(0.5), Noise(), self.fc)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SimpleCNN, "__init__", build_with_dropout)
        yield


@contextmanager
def ctrl_c(method: str, call: int, times: int = 1) -> Iterator[None]:
    """Ctrl-C is pressed at the beginning of the ``call``-th call, from 0, of a method of the classifier."""
    calls, original = count(), getattr(Classifier, method)

    def with_ctrl_c(self: Classifier, *arguments: Any) -> Any:
        if next(calls) == call:
            for _ in range(times):
                signal.raise_signal(signal.SIGINT)
        return original(self, *arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Classifier, method, with_ctrl_c)
        yield


@pytest.fixture(scope="module")
def uninterrupted(launch_in: Launch) -> Any:
    with dropout():
        return launch_in(*ARGUMENTS)


# ------------------------------------------------------------------------------------------------------------
# Killed, or asked to stop
# ------------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_killed_run_goes_on_from_its_last_checkpoint(launch_in: Launch, resume: Launch, tmp_path: Path) -> None:
    # A real process, in epochs that are long enough to be killed in.
    arguments = ["data.train_size=600", "data.batch_size=20", *ARGUMENTS[2:], "trainer.max_epochs=3"]
    arguments += ["data=digits", "data.image_size=8", "model=simplecnn", "trainer=cpu"]
    reference = launch_in(*arguments)
    folder = tmp_path / "killed"
    with (tmp_path / "stderr").open("w") as stderr:
        process = subprocess.Popen(
            [sys.executable, "-m", "src.train", f"hydra.run.dir={folder}", *arguments],
            cwd=tmp_path,
            env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
            stdout=subprocess.DEVNULL,
            stderr=stderr,
        )
        while not (folder / "metrics.csv").exists() and process.poll() is None:
            time.sleep(0.005)
        process.kill()
        assert process.wait() == -signal.SIGKILL
    assert (tmp_path / "stderr").read_text() == ""  # not a warning on the way
    assert json.loads((folder / "results.json").read_text())["status"] == "running"

    run = resume(folder)
    assert run.code == 0 and run.results["status"] == "completed"
    assert run.trained() == reference.trained()
    assert run.results["metrics"] == reference.results["metrics"]


@pytest.mark.parametrize(
    ("method", "call", "epochs_done"),
    [
        pytest.param("training_step", 3, 0, id="in the first epoch"),
        pytest.param("training_step", STEPS + 2, 1, id="in the second epoch", marks=pytest.mark.slow),
        pytest.param("training_step", 2 * STEPS - 1, 2, id="in the last batch of an epoch"),
        pytest.param("validation_step", 1, 2, id="while validating", marks=pytest.mark.slow),
        pytest.param("validation_step", 2, 3, id="while validating the last epoch"),
    ],
)
def test_ctrl_c_saves_and_says_how_to_go_on(
    uninterrupted: Any, train: Launch, resume: Launch, method: str, call: int, epochs_done: int
) -> None:
    handler = signal.getsignal(signal.SIGINT)
    with dropout():
        with ctrl_c(method, call):
            stopped = train(*ARGUMENTS)
        assert stopped.code == 130
        assert (stopped.results["status"], stopped.results["error"]) == ("interrupted", "interrupted by the user")
        folder = stopped.folder.relative_to(stopped.folder.parents[3])
        assert "stopping after this batch" in stopped.out
        assert f"To resume it: python -m src.train resume={folder}\n" in stopped.out
        assert "Traceback" not in stopped.out + stopped.err
        assert signal.getsignal(signal.SIGINT) == handler
        assert len(stopped.rows) == epochs_done

        run = resume(stopped.folder)
    assert run.code == 0 and run.results["status"] == "completed" and run.results["error"] is None
    assert run.trained() == uninterrupted.trained()
    assert run.results["metrics"] == uninterrupted.results["metrics"]


@pytest.mark.parametrize(("call", "epochs_done"), [(0, 0), (STEPS + 2, 1)])
def test_a_second_ctrl_c_stops_at_once(
    uninterrupted: Any, train: Launch, resume: Launch, call: int, epochs_done: int
) -> None:
    handler = signal.getsignal(signal.SIGINT)
    with dropout():
        with ctrl_c("training_step", call, times=2):
            stopped = train(*ARGUMENTS)
        assert stopped.code == 130 and stopped.results["status"] == "interrupted"
        assert signal.getsignal(signal.SIGINT) == handler
        assert (stopped.folder / "checkpoints" / "last.ckpt").exists() == (epochs_done > 0)
        run = resume(stopped.folder)
    assert run.trained() == uninterrupted.trained()


def test_accumulated_gradients_are_not_lost(launch_in: Launch, train: Launch, resume: Launch) -> None:
    arguments = (*ARGUMENTS, "trainer.accumulate_grad_batches=3")
    with dropout():
        reference = launch_in(*arguments)
        with ctrl_c("training_step", 3):  # the first of three batches for one step
            stopped = train(*arguments)
        assert stopped.code == 130 and stopped.checkpoint()["global_step"] == 2
        run = resume(stopped.folder)
    assert run.trained() == reference.trained()


@contextmanager
def failure(step: int) -> Iterator[None]:
    """The run fails when it begins a step."""
    original = Classifier.training_step

    def fail(self: Classifier, *batch: Any) -> Any:
        if self.trainer.fit_loop.total_batch_idx == step:
            raise RuntimeError("on purpose")
        return original(self, *batch)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Classifier, "training_step", fail)
        yield


@pytest.mark.parametrize(("accumulated", "steps"), [(1, STEPS + 4), (3, 3 + 1)])
def test_within_an_epoch_a_run_goes_on_with_the_next_batch(
    launch_in: Launch, train: Launch, resume: Launch, accumulated: int, steps: int
) -> None:
    arguments = (*ARGUMENTS, f"trainer.accumulate_grad_batches={accumulated}")
    with dropout():
        reference = launch_in(*arguments)
        with failure(STEPS + 4):
            stopped = train(*arguments, "checkpoint_minutes=0")
        assert stopped.code == 1 and stopped.checkpoint()["global_step"] == steps
        run = resume(stopped.folder)
    assert run.code == 0 and run.results["steps"] == reference.results["steps"]
    assert run.trained() == reference.trained()


@pytest.mark.parametrize("minutes", ["-1", "soon"])
def test_a_time_between_checkpoints_that_is_none(train: Launch, minutes: str) -> None:
    run = train(f"checkpoint_minutes={minutes}")
    assert run.code == 1 and "checkpoint_minutes is" in run.err and run.err.count("\n") == 1


# ------------------------------------------------------------------------------------------------------------
# What may change
# ------------------------------------------------------------------------------------------------------------


def test_a_completed_run_trains_longer_as_if_that_had_been_asked_for(launch_in: Launch, resume: Launch) -> None:
    longer = launch_in("schedule=constant", "trainer.max_epochs=3")
    run = launch_in("schedule=constant", "trainer.max_epochs=2")
    run = resume(run.folder, "trainer.max_epochs=3")
    assert run.code == 0 and run.results["settings"]["trainer.max_epochs"] == 3
    assert run.trained() == longer.trained()
    for name in ("metrics", "best_epoch", "epochs", "steps", "fingerprint", "settings"):
        assert run.results[name] == longer.results[name]


@pytest.fixture(scope="module")
def extended(finished: Any, resume: Launch, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A copy of a completed run of three epochs that was then given a fourth."""
    folder = tmp_path_factory.mktemp("extended") / "moved"
    shutil.copytree(finished.folder, folder)
    return resume(folder, "trainer.max_epochs=4")


def test_a_longer_run_follows_the_curve_of_its_new_length_at_once(extended: Any) -> None:
    rates = {event.step: event.value for event in extended.events.Scalars("optimisation/learning_rate")}
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.02)
    cosine = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=16)
    expected = []
    for _ in range(16):
        expected.append(cosine.get_last_lr()[0])
        optimizer.step(), cosine.step()
    assert [rates[step] for step in range(12, 16)] == pytest.approx(expected[12:])


def test_hydras_record_of_the_first_command_stays(finished: Any, extended: Any) -> None:
    for file in (finished.folder / ".hydra").iterdir():
        assert (extended.folder / ".hydra" / file.name).read_bytes() == file.read_bytes()
    (later,) = (folder for folder in (extended.folder / ".hydra").iterdir() if folder.is_dir())
    assert "trainer.max_epochs=4" in (later / "overrides.yaml").read_text()


def test_the_log_goes_on(finished: Any, extended: Any) -> None:
    assert extended.log.startswith(finished.log) and "epoch 4/4" in extended.log


def test_a_run_that_goes_on_is_running_until_it_has_ended(copy_of_finished: Any, resume: Launch) -> None:
    with ctrl_c("training_step", 1, times=2):
        assert resume(copy_of_finished.folder, "trainer.max_epochs=4").code == 130
    assert copy_of_finished.results["status"] == "interrupted"
    assert resume(copy_of_finished.folder).code == 0  # with the epochs asked for before
    assert copy_of_finished.results["epochs"] == 4


# ------------------------------------------------------------------------------------------------------------
# What is refused
# ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        ([], "has completed epoch 3, its last; to train it longer, add trainer.max_epochs=6."),
        (["trainer.max_epochs=3"], "has completed epoch 3, its last"),
        (["trainer.max_epochs=two"], "trainer.max_epochs is 'two'; expected a whole number"),
        (["optim.lr=0.1"], "but optim.lr=0.1 was given: only the run's length"),
        (["optim=adam"], "but optim=adam was given"),
        (["trainer=cpu"], "but trainer=cpu was given"),
        (["seed=1"], "but seed=1 was given"),
        (["+tag=x"], "but +tag=x was given"),
    ],
)
def test_what_would_be_another_run_is_refused(
    copy_of_finished: Any, resume: Launch, overrides: list[str], sentence: str
) -> None:
    results = copy_of_finished.results
    run = resume(copy_of_finished.folder, *overrides)
    assert run.code == 1
    assert sentence in run.err and run.err.count("\n") == 1
    assert run.results == results


def test_debug_shows_where_resuming_was_refused(copy_of_finished: Any, resume: Launch) -> None:
    run = resume(copy_of_finished.folder, "debug=true")
    assert run.code == 1 and run.err.startswith("Traceback") and "resumed_config" in run.err


def test_a_folder_that_holds_no_run_is_refused(resume: Launch, tmp_path: Path) -> None:
    run = resume(tmp_path / "elsewhere")
    assert run.code == 1
    assert "elsewhere is no run folder: it has no results.json." in run.err and run.err.count("\n") == 1
    assert not (tmp_path / "elsewhere").exists()


@pytest.mark.parametrize("content", ["{", "[]", "\x00\x01", '{"config": '])
def test_damaged_results_are_refused(copy_of_finished: Any, resume: Launch, content: str) -> None:
    (copy_of_finished.folder / "results.json").write_text(content)
    run = resume(copy_of_finished.folder)
    assert run.code == 1
    assert "results.json is damaged" in run.err and run.err.count("\n") == 1


@pytest.mark.parametrize("content", ["", "{}", '{"schema": 1, "status": "running", "error": null}'])
def test_a_run_that_never_got_to_its_configuration_is_refused(
    copy_of_finished: Any, resume: Launch, content: str
) -> None:
    (copy_of_finished.folder / "results.json").write_text(content)
    run = resume(copy_of_finished.folder)
    assert run.code == 1
    assert "stopped before it recorded its configuration; start it again." in run.err and run.err.count("\n") == 1


def test_a_damaged_checkpoint_gets_one_sentence(copy_of_finished: Any, resume: Launch) -> None:
    last = copy_of_finished.folder / "checkpoints" / "last.ckpt"
    last.write_bytes(last.read_bytes()[:1000])
    run = resume(copy_of_finished.folder, "trainer.max_epochs=4")
    assert run.code == 1 and run.err.count("\n") == 1 and "last.ckpt" in run.err


FOREIGN = {"_target_": "os.system", "command": "touch PWNED"}


@pytest.mark.parametrize(
    ("key", "value"),
    [
        pytest.param("model", FOREIGN, id="plain"),
        pytest.param("callbacks", {"mine": {"deeper": FOREIGN}}, id="nested"),
        pytest.param("aug", {"_target_": "src.augment.Pipeline", "transforms": [FOREIGN]}, id="in a list"),
        pytest.param("model", "${oc.create:'{_target_: os.system}'}", id="hidden in an interpolation"),
        pytest.param("optim", {"_target_": ["os.system"]}, id="not a name"),
    ],
)
def test_a_configuration_that_would_run_foreign_code_is_not_built(
    copy_of_finished: Any, resume: Launch, key: str, value: Any
) -> None:
    results = copy_of_finished.results
    results["config"][key] = value
    (copy_of_finished.folder / "results.json").write_text(json.dumps(results))
    run = resume(copy_of_finished.folder, "trainer.max_epochs=4")
    assert run.code == 1
    assert "os.system" in run.err and "it was not built" in run.err and run.err.count("\n") == 1
    assert run.results["status"] == "completed"  # refused before anything was touched


def test_resuming_goes_by_the_folder_that_is_resumed(copy_of_finished: Any, resume: Launch, tmp_path: Path) -> None:
    assert resume(copy_of_finished.folder, "trainer.max_epochs=4", f"hydra.run.dir={tmp_path / 'other'}").code == 0
    assert copy_of_finished.results["epochs"] == 4
    assert not (tmp_path / "other" / "results.json").exists()
