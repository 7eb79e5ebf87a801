"""The benchmark measures what it says, at any size, and leaves it in a folder. No test looks at a time."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hydra
import pytest
from hydra import initialize
from PIL import Image

import src.benchmark
from src.benchmarks.commands import accuracy, memory, prediction, start, sweep, together
from src.benchmarks.measure import Part, Row, Schedule, Turns, own_process, take_turns
from src.benchmarks.page import cells
from src.benchmarks.parts import ROWS, compose, parts
from src.benchmarks.training import payback
from tests.conftest import TINY, Run, launch

SMALL = (
    "repeats=2",
    "minutes=null",
    "models=[simplecnn]",
    "training.cpu.simplecnn={batch_size: 8, steps: 1, evaluated: 500}",
)
KINDS = ("training", "Trainer's step", "evaluation", "input's share", "arithmetic")


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The rows of one network, in the smallest size."""
    return launch(src.benchmark.main, tmp_path_factory.mktemp("cwd"), "rows=[training]", *SMALL)


def files_of(run: Run) -> Path:
    (folder,) = Path(run.folder).glob("logs/benchmark/*")
    return folder


@pytest.mark.slow
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


@pytest.mark.slow
def test_the_table_is_shown_and_kept_with_a_chart(measured: Run) -> None:
    folder = files_of(measured)
    for text in (measured.out, (folder / "benchmark.md").read_text()):
        assert all(f"{kind}: simplecnn" in text for kind in KINDS) and "plain loop" in text
    assert Image.open(folder / "ratios.png").width > 500


def test_settings_are_compared_with_the_default(tmp_path: Path) -> None:
    small = ("models=[simplecnn]", "+choices.cpu.networks.simplecnn={batch_size: 8, steps: 1, seconds: [9, 1]}")
    choices = "choices.cpu.overrides=['compile=false','label_smoothing=0.1']"
    run = launch(src.benchmark.main, tmp_path, "rows=[choices]", "repeats=2", "minutes=null", *small, choices)
    assert run.code == 0, run.err
    (row,) = json.loads((files_of(run) / "benchmark.json").read_text())["rows"]
    assert (row["work"], row["other"]) == ("label_smoothing=0.1: simplecnn", "compile=false")
    assert len(row["ours"]) == len(row["against"]) == 2 and min(row["ours"] + row["against"]) > 0


def test_a_slow_first_step_is_won_back_or_not() -> None:
    assert payback(30.0, [1.0], [2.0]) == "the first step takes 30 s, won back after 30 steps"
    assert payback(30.0, [1.0], [0.9]) == "the first step takes 30 s, never won back"


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [(OSError("No space left on device"), 1, "No space left on device"), (KeyboardInterrupt(), 130, "Interrupted: ")],
)
def test_what_was_measured_is_kept_when_something_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException, code: int, said: str
) -> None:
    def fails(*args: Any) -> list[Row]:
        raise error

    monkeypatch.setattr("src.benchmarks.commands.start", lambda trainer, turns: [Row("start", "s", [1.0])])
    monkeypatch.setattr("src.benchmarks.commands.memory", fails)
    run = launch(src.benchmark.main, tmp_path, "rows=[memory,start]", "minutes=null")
    assert run.code == code and run.err.splitlines()[-1].startswith(said) and "Traceback" not in run.err
    (row,) = json.loads((files_of(run) / "benchmark.json").read_text())["rows"]
    assert row["ours"] == [1.0] and str(files_of(run).relative_to(tmp_path)) in run.err


def test_a_budget_that_nothing_fits_gets_a_sentence(tmp_path: Path) -> None:
    run = launch(src.benchmark.main, tmp_path, "rows=[start]", "minutes=1e-6")
    estimate, *_, error = run.err.splitlines()
    assert run.code == 1 and estimate == "This will take about 0 minutes for 0 parts, without start."
    assert error == "minutes is 1e-06, which is too little for any part; allow more, or null."


def test_contenders_take_turns_and_the_first_turn_does_not_count() -> None:
    done: list[str] = []

    def contender(name: str, seconds: list[float]) -> Callable[[], float]:
        return lambda: done.append(name) or seconds.pop(0)  # type: ignore[func-returns-value]

    seconds = take_turns({"a": contender("a", [99, 1, 2]), "b": contender("b", [99, 4, 8])}, Turns(2))
    assert done == ["a", "b"] * 3 and seconds == {"a": [1, 2], "b": [4, 8]}


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The seconds that the benchmark's clock shows."""
    now = [1000.0]
    monkeypatch.setattr("src.benchmarks.measure.monotonic", lambda: now[0])
    return now


def test_a_part_is_repeated_while_there_is_time_but_once_at_least(clock: list[float]) -> None:
    assert list(Turns(3)) == [0, 1, 2, 3]
    for until, counted in ((0, 1), (29, 1), (30, 2), (99, 3)):
        clock[0], turns = 0, Turns(3, until)
        for _ in turns:
            clock[0] += 10
        assert turns.counted == counted


@pytest.mark.parametrize(
    ("minutes", "counted", "said"),
    [
        (None, {"small": 5, "middle": 5, "large": 5}, "about 4.2 minutes for 3 parts"),
        (3.3, {"small": 3, "middle": 3, "large": 3}, "about 3.3 minutes for 3 parts, with fewer than 5 repeats"),
        (1, {"small": 5, "middle": 5}, "about 0.55 minutes for 2 parts, without large"),
        (0.01, {}, "about 0 minutes for 0 parts, without small; middle; large"),
    ],
)
def test_the_cheapest_parts_come_first_and_the_costliest_are_left_out_of_a_small_budget(
    clock: list[float], minutes: float | None, counted: dict[str, int], said: str
) -> None:
    costs = {"large": (100, 30), "small": (1, 1), "middle": (20, 2)}
    schedule = Schedule((Part(what, *cost, lambda _: []) for what, cost in costs.items()), 5, minutes, pace=1.0)
    assert schedule.estimate() == said
    seen = {}
    for part, turns in schedule:
        for turn in turns:
            clock[0] += part.more if turn else part.least - part.more
        seen[part.what] = turns.counted
    assert seen == counted and list(seen) == list(counted)
    assert {part.what for part in schedule.unmeasured} == costs.keys() - counted.keys()
    assert minutes is None or clock[0] <= 1000 + 60 * minutes


def test_what_goes_wrong_in_the_other_process_is_told() -> None:
    with pytest.raises(ValueError, match="no good"), own_process(int, "no good"):
        pass


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
    rows = accuracy(overrides, targets=(0.3, 1.1))
    reached, never = rows
    assert len(reached.ours) == 1 and reached.ours[0] > 0 and never.ours == []
    assert cells(never)[1] == "not reached"


@pytest.mark.slow
def test_the_start_is_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Packages that PYTHONPATH names are found by the measured commands, too, as on a machine without pip."""
    lines = ("import sys", f"open({str(tmp_path / 'started')!r}, 'a').write(' '.join(sys.orig_argv))")
    (tmp_path / "sitecustomize.py").write_text("\n".join(lines))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    helped, stepped, beyond = start("cpu", Turns(1))
    assert all(
        words in (tmp_path / "started").read_text() for words in ("--help", "import lightning", "hydra.run.dir=")
    )
    assert len(helped.ours) == len(beyond.ours) == 1 and 0 < helped.ours[0] < stepped.ours[0]
    assert beyond.ours[0] < stepped.ours[0]


@pytest.mark.slow
def test_a_sweep_is_measured() -> None:
    share, further = sweep("cpu", Turns(1), jobs=2)
    assert len(share.ours) == len(further.ours) == 1 and share.ours[0] > 0  # a busy machine's times


@pytest.mark.slow
def test_predictions_are_measured_beside_plain_loops(tmp_path: Path) -> None:
    with initialize(version_base="1.3", config_path="../../conf"):
        cfg = hydra.compose("predict", ["trainer=cpu"])
    rows = prediction(cfg, size=(48, 32), photos=6, device="cpu", turns=Turns(1))
    assert [row.other for row in rows] == [f"Pillow and torch, {way}" for way in ("one at a time", "batches of 64")]
    assert all(row.ours == rows[0].ours and row.ours[0] > 0 and row.against[0] > 0 for row in rows)


@pytest.mark.slow
def test_mixing_is_measured(tmp_path: Path) -> None:
    run = launch(src.benchmark.main, tmp_path, "rows=[mixing]", "repeats=1", "minutes=null")
    assert run.code == 0, run.err
    rows = json.loads((files_of(run) / "benchmark.json").read_text())["rows"]
    assert [row["work"] for row in rows] == [f"mixing: {name}" for name in ("mixup", "cutmix", "mixup_cutmix")]
    assert all(0 < row["ours"][0] < row["against"][0] for row in rows)


@pytest.mark.slow
def test_a_gpus_rows_run_on_the_cpu(tmp_path: Path) -> None:
    run = launch(src.benchmark.main, tmp_path, "rows=[trivialaugment]", "repeats=1", "minutes=null")
    assert run.code == 0, run.err
    (row,) = json.loads((files_of(run) / "benchmark.json").read_text())["rows"]
    assert len(row["ours"]) == 1 and row["ours"][0] > 0 and row["note"] == "on cpu, batch 500"

    (row,) = together([*TINY, "trainer.max_epochs=1"], jobs=2)
    assert row.ours[0] > 0 and row.against[0] > 0


@pytest.mark.slow
def test_the_parts_of_a_gpu_are_composed_without_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    with initialize(version_base="1.3", config_path="../../conf"):
        names = [part.what for part in parts(hydra.compose("benchmark", ["device=cuda"]))]
        choices = [part.what for part in parts(hydra.compose("benchmark", ["device=cuda", "rows=[choices]"]))]
    assert {name.partition(":")[0] for name in names} == set(ROWS["cuda"])
    assert choices == ["choices: resnet10", "choices: resnet50_cifar_stem"]


@pytest.mark.slow
def test_memory_is_measured() -> None:
    with initialize(version_base="1.3", config_path="../../conf"):
        few, more = (
            compose("data=noise", f"data.train_images={images}", "data.test_images=200") for images in (1_000, 31_000)
        )
    grown, tiny, whole = memory(few, more, ["simplecnn"])
    assert grown.against == [31_200 * 3072 / 1e6]
    assert 0.9 * 30_000 * 3072 / 1e6 < grown.ours[0] < whole.ours[0] and 0 < tiny.ours[0] < whole.ours[0]


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("device=tpu", "device is 'tpu'; expected cpu or cuda."),
        ("rows=[]", "rows is empty; expected some of augmentation, policies"),
        ("models=resnet18", "models has 'resnet18'; expected some of simplecnn, deepcnn"),
        ("minutes=0", "minutes is 0; expected a number above 0, or null for no limit."),
        ("repeats=true", "repeats is True; expected a whole number, 1 or more."),
        ("minutes=true", "minutes is True; expected a number above 0, or null for no limit."),
        ("repeats=0", "repeats is 0; expected a whole number, 1 or more."),
        ("rows=[training,speed]", "rows has 'speed'; expected some of augmentation, policies"),
        ("models=[resnet18]", "models has 'resnet18'; expected some of simplecnn, deepcnn"),
    ],
)
def test_a_wrong_setting_gets_a_sentence(tmp_path: Path, override: str, sentence: str) -> None:
    run = launch(src.benchmark.main, tmp_path, override)
    assert run.code == 1 and run.err.startswith(sentence) and "Traceback" not in run.err
