"""The benchmark measures what it says, at any size, and leaves it in a folder. No test looks at a time."""

import json
from collections.abc import Callable
from multiprocessing import Pipe
from pathlib import Path
from typing import Any

import pytest
from hydra import initialize
from PIL import Image

import src.benchmark
from src.benchmarks.commands import accuracy, memory, start, sweep, together
from src.benchmarks.measure import Row, serve, take_turns
from src.benchmarks.page import cells
from src.benchmarks.parts import compose
from src.benchmarks.training import payback
from tests.conftest import TINY, Run, launch

SMALL = ("repeats=2", "models=[simplecnn]", "training.cpu.simplecnn={batch_size: 8, steps: 1, evaluated: 500}")
KINDS = ("training", "Trainer's step", "evaluation", "input's share", "arithmetic")


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The rows of one network, in the smallest size."""
    return launch(src.benchmark.main, tmp_path_factory.mktemp("cwd"), "rows=[training]", *SMALL)


def files_of(run: Run) -> Path:
    (folder,) = Path(run.folder).glob("logs/benchmark/*")
    return folder


def test_every_row_has_its_repeats_and_compares_what_it_says(measured: Run) -> None:
    assert measured.code == 0, measured.err
    content = json.loads((files_of(measured) / "benchmark.json").read_text())
    assert content["machine"]["threads"] == 1 and content["machine"]["torch"]
    assert [row["work"] for row in content["rows"]] == [f"{kind}: simplecnn" for kind in KINDS]
    for row in content["rows"]:
        assert len(row["ours"]) == len(row["against"]) == 2 and min(row["ours"] + row["against"]) > 0
    trained, step, evaluated, share, arithmetic = content["rows"]
    assert [8000 / rate for rate in trained["ours"]] == pytest.approx(step["ours"])  # a batch of 8, milliseconds
    assert evaluated["against"] == trained["ours"] and share["against"] == step["ours"]
    per_image = 3 * 2 * (32**2 * 27 * 32 + 16**2 * 288 * 64 + 8**2 * 576 * 128 + 8192 * 10)  # thrice the forward pass
    assert arithmetic["ours"] == pytest.approx([per_image * rate / 1e9 for rate in trained["ours"]])


def test_the_table_is_shown_and_kept_with_a_chart(measured: Run) -> None:
    folder = files_of(measured)
    for text in (measured.out, (folder / "benchmark.md").read_text()):
        assert all(f"{kind}: simplecnn" in text for kind in KINDS) and "plain loop" in text
    assert Image.open(folder / "ratios.png").width > 500


def test_settings_are_compared_with_the_default(tmp_path: Path) -> None:
    small = ("models=[simplecnn]", "+choices.cpu.networks.simplecnn={batch_size: 8, steps: 1}")
    choices = "choices.cpu.overrides=['compile=false','label_smoothing=0.1']"
    run = launch(src.benchmark.main, tmp_path, "rows=[choices]", "repeats=2", *small, choices)
    assert run.code == 0, run.err
    (row,) = json.loads((files_of(run) / "benchmark.json").read_text())["rows"]
    assert (row["work"], row["other"]) == ("label_smoothing=0.1: simplecnn", "compile=false")
    assert len(row["ours"]) == len(row["against"]) == 2 and min(row["ours"] + row["against"]) > 0


def test_a_slow_first_step_is_won_back_or_not() -> None:
    assert payback(30.0, [1.0], [0.5]) == "the first step takes 30 s, won back after 30 steps"
    assert payback(30.0, [1.0], [1.1]) == "the first step takes 30 s, never won back"


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [(OSError("No space left on device"), 1, "No space left on device"), (KeyboardInterrupt(), 130, "Interrupted: ")],
)
def test_what_was_measured_is_kept_when_something_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException, code: int, said: str
) -> None:
    def fails(*args: Any) -> list[Row]:
        raise error

    monkeypatch.setattr("src.benchmarks.commands.start", lambda trainer, repeats, tick: [Row("start", "s", [1.0])])
    monkeypatch.setattr("src.benchmarks.commands.memory", fails)
    run = launch(src.benchmark.main, tmp_path, "rows=[start,memory]")
    assert run.code == code and run.err.splitlines()[-1].startswith(said) and "Traceback" not in run.err
    (row,) = json.loads((files_of(run) / "benchmark.json").read_text())["rows"]
    assert row["ours"] == [1.0] and str(files_of(run).relative_to(tmp_path)) in run.err


def test_contenders_take_turns_and_the_first_turn_does_not_count() -> None:
    turns: list[tuple[str, int]] = []
    ticks: list[None] = []

    def contender(name: str, seconds: list[float]) -> Any:
        def run(steps: int) -> float:
            turns.append((name, steps))
            return seconds.pop(0)

        return run

    contenders = {"a": contender("a", [99, 1, 2]), "b": contender("b", [99, 4, 8])}
    rates = take_turns(contenders, {"a": 4, "b": 16}, repeats=2, tick=lambda: ticks.append(None))
    assert turns == [("a", 4), ("b", 16)] * 3 and len(ticks) == 3
    assert rates == {"a": [4, 2], "b": [4, 2]}


def broken() -> Callable[[int], float]:
    raise ValueError("no good")


def test_what_goes_wrong_in_the_other_process_is_told() -> None:
    ours, theirs = Pipe()
    serve(theirs, broken, ())
    assert str(ours.recv()) == "The plain reference failed: ValueError: no good"


def test_the_median_of_the_ratios_decides_whether_a_goal_is_met() -> None:
    row = Row("work", "images/s", [30.0, 20.0, 90.0], "plain", [10.0, 10.0, 10.0], goal=3.0)
    assert row.ratios == [3, 2, 9] and row.met is True
    assert Row("work", "ms", [30.0], "plain", [10.0], goal=2.9, bound="≤").met is False
    assert Row("start", "s", [1.0, 1.2, 9.0], goal=1.5, bound="≤").met is True
    assert cells(Row("start", "s", [1.0, 1.2, 9.0], goal=1.5, bound="≤", note="warm")) == [
        "start (warm)", "1.2 (1 to 9) s", "", "", "≤ 1.5", "met, within the spread",
    ]  # fmt: skip


@pytest.mark.slow
def test_the_time_to_an_accuracy_is_that_of_the_first_epoch_that_has_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    overrides = (*TINY, "data.train_size=null", "model.norm=batch", "optim.lr=0.05", "trainer.max_epochs=2")
    rows = accuracy(overrides, targets=(0.3, 1.1), tick=lambda: None)
    reached, never = rows
    assert len(reached.ours) == 1 and reached.ours[0] > 0 and never.ours == []
    assert cells(never)[1] == "not reached"


@pytest.mark.slow
def test_the_start_is_measured() -> None:
    ticks: list[None] = []
    helped, stepped = start("cpu", repeats=1, tick=lambda: ticks.append(None))
    assert len(helped.ours) == 1 and 0 < helped.ours[0] < stepped.ours[0] and len(ticks) == 1


@pytest.mark.slow
def test_a_sweep_is_measured() -> None:
    ticks: list[None] = []
    share, further = sweep("cpu", repeats=1, jobs=2, tick=lambda: ticks.append(None))
    assert len(share.ours) == len(further.ours) == 1 and share.ours[0] > 0 and len(ticks) == 1  # a busy machine's times


@pytest.mark.slow
def test_mixing_is_measured(tmp_path: Path) -> None:
    run = launch(src.benchmark.main, tmp_path, "rows=[mixing]", "repeats=1")
    assert run.code == 0, run.err
    rows = json.loads((files_of(run) / "benchmark.json").read_text())["rows"]
    assert [row["work"] for row in rows] == [f"mixing: {name}" for name in ("mixup", "cutmix", "mixup_cutmix")]
    assert all(0 < row["ours"][0] < row["against"][0] for row in rows)


@pytest.mark.slow
def test_a_gpus_rows_run_on_the_cpu(tmp_path: Path) -> None:
    run = launch(src.benchmark.main, tmp_path, "rows=[trivialaugment]", "repeats=1")
    assert run.code == 0, run.err
    (row,) = json.loads((files_of(run) / "benchmark.json").read_text())["rows"]
    assert len(row["ours"]) == 1 and row["ours"][0] > 0 and row["note"] == "on cpu, batch 500"

    ticks: list[None] = []
    (row,) = together([*TINY, "trainer.max_epochs=1"], jobs=2, tick=lambda: ticks.append(None))
    assert row.ours[0] > 0 and row.against[0] > 0 and len(ticks) == 2


@pytest.mark.slow
def test_memory_is_measured() -> None:
    with initialize(version_base="1.3", config_path="../../conf"):
        few, more = (
            compose("data=noise", f"data.train_images={images}", "data.test_images=200") for images in (1_000, 31_000)
        )
    grown, whole = memory(few, more, ["simplecnn"], tick=lambda: None)
    assert grown.against == [31_200 * 3072 / 1e6]
    assert 0.9 * 30_000 * 3072 / 1e6 < grown.ours[0] < whole.ours[0]


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("device=tpu", "device is 'tpu'; expected cpu or cuda."),
        ("rows=[]", "rows is empty; expected some of augmentation, policies"),
        ("models=resnet18", "models has 'resnet18'; expected some of simplecnn, deepcnn"),
        ("repeats=0", "repeats is 0; expected a whole number, 1 or more."),
        ("rows=[training,speed]", "rows has 'speed'; expected some of augmentation, policies"),
        ("models=[resnet18]", "models has 'resnet18'; expected some of simplecnn, deepcnn"),
    ],
)
def test_a_wrong_setting_gets_a_sentence(tmp_path: Path, override: str, sentence: str) -> None:
    run = launch(src.benchmark.main, tmp_path, override)
    assert run.code == 1 and run.err.startswith(sentence) and "Traceback" not in run.err
