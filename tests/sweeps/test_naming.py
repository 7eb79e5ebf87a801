"""Names of run folders: unique, and valid wherever the project runs."""

import re
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from src.runs.folder import RunFolder
from src.sweeps.naming import SWEEPS, folder_name, record_dir, run_dir, run_id, slots, sweep_name

CONF = RunFolder(__file__).path.parents[2] / "conf"


def test_run_ids_of_the_same_second_differ() -> None:
    assert len({run_id() for _ in range(200)}) == 200
    assert re.fullmatch(r"\d{4}-\d\d-\d\d_\d\d-\d\d-\d\d-[0-9a-f]{6}", run_id())


def test_a_run_goes_to_a_new_folder_or_to_the_one_that_is_resumed(tmp_path: Path) -> None:
    assert run_dir(None).startswith("logs/train/runs/") and run_dir(None) != run_dir(None)
    assert run_dir(str(tmp_path)) == str(tmp_path)


def test_only_a_run_that_is_resumed_gets_a_second_record(tmp_path: Path) -> None:
    folder = str(tmp_path)
    assert record_dir(folder, None) == ".hydra"
    assert record_dir(folder, folder) is None  # there is no run to resume
    (tmp_path / ".hydra").mkdir()
    (tmp_path / "results.json").touch()
    assert record_dir(folder, None) is None
    assert record_dir(folder, folder).startswith(".hydra/") and record_dir(folder, folder) != record_dir(folder, folder)


def test_two_compositions_share_no_folder_but_all_jobs_of_one_do() -> None:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        one, other = (compose("train", return_hydra_config=True) for _ in range(2))
    assert one.hydra.sweep.dir == one.hydra.sweep.dir != other.hydra.sweep.dir
    assert one.hydra.run.dir == one.hydra.run.dir != other.hydra.run.dir


@pytest.mark.parametrize("overrides", ["optim=sgd", "optim.lr=0.1,optim=sgd,seed=1", "+a.b=-1e-5"])
def test_harmless_overrides_are_the_name(overrides: str) -> None:
    assert folder_name([*overrides.split(","), "data=digits"], ["data", "scale"], 3) == overrides


def test_overrides_are_in_the_order_of_the_alphabet() -> None:
    assert (
        folder_name(["seed=1", "optim=sgd"], [], 3) == folder_name(["optim=sgd", "seed=1"], [], 3) == "optim=sgd,seed=1"
    )


def test_without_overrides_the_number_is_the_name() -> None:
    assert folder_name([], [], 3) == folder_name(["data=digits"], ["data"], 3) == "3"


HOSTILE = [
    "data.root=C:\\images",
    "data.root=/data/images",
    "data.root=../../..",
    'a="b"',
    "a=b?c",
    "a=b*",
    "a=<b>|c",
    "a=b ",
    "a=b.",
    "a=[1,2]",
    "a={b:1}",
    "a=$HOME",
    "a=ünïcode",
    "a=b\nc",
    "..",
    "a=" + 300 * "x",
]


@pytest.mark.parametrize("overrides", HOSTILE)
def test_every_name_is_valid_on_every_system(overrides: str) -> None:
    name = folder_name([overrides], [], 0)
    assert re.fullmatch(r"[\w.,=+-]+", name, re.ASCII) and len(name) <= 200
    assert not name.endswith((".", " ")) and name not in (".", "..")


def test_names_that_had_to_be_changed_never_collide() -> None:
    long = 300 * "x"
    overrides = [*HOSTILE, "a=b/", "a=b\\", "a=b:", "a=b_", "a=" + long + "y", "a=" + long + "z"]
    assert len({folder_name([override], [], 0).lower() for override in overrides}) == len(overrides)


def test_sweeps_of_one_last_name_have_reports_of_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("a/first", "b/first", "plain"):
        (SWEEPS / name).mkdir(parents=True)
    assert [sweep_name(name) for name in ("a/first", "b/first", "plain")] == ["a-first", "b-first", "plain"]
    assert sweep_name(["a/first", "plain"]) == "a-first+plain"
    elsewhere = [str(SWEEPS / "a/first"), str(tmp_path / SWEEPS / "a/first"), "../plain", "a/../b/first", "not/there"]
    assert [sweep_name(path) for path in elsewhere] == ["first", "first", "plain", "first", "there"]


HERE = {"ray": {"init": {"address": None}, "remote": {"num_cpus": 1, "num_gpus": 0}}}


@pytest.mark.parametrize(
    ("name", "launcher", "workers", "at_once"),
    [
        ("basic", {}, 3, 1),
        ("joblib", {"n_jobs": 3}, None, 3),
        ("joblib", {"n_jobs": -1}, None, 8),
        ("joblib", {"n_jobs": 3}, 2, 2),
        ("ray", HERE, None, 8),
        ("ray", HERE, 5, 5),
        ("ray", {"ray": {"init": {"address": None}, "remote": {"num_cpus": 3, "num_gpus": 0}}}, None, 2),
        ("ray", {"ray": {"init": {"address": None}, "remote": {"num_cpus": 16, "num_gpus": 0}}}, None, 1),
        ("ray", {"ray": {"init": {"address": "auto"}, "remote": {"num_cpus": 1, "num_gpus": 0}}}, None, 1),
        ("ray", {"ray": {"init": {"address": None}, "remote": {"num_cpus": 1, "num_gpus": 0.5}}}, None, 1),
        ("slurm", {"partition": "gpu"}, None, 1),
        ("slurm", {"partition": "gpu"}, 4, 4),
    ],
)
def test_a_launcher_says_how_many_jobs_it_runs_at_a_time(
    name: str, launcher: dict[str, object], workers: int | None, at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 8)
    config = {"workers": workers, "hydra": {"launcher": launcher, "runtime": {"choices": {"hydra/launcher": name}}}}
    assert slots(OmegaConf.create(config)) == at_once
