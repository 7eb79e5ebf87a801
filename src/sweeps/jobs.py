"""A sweep's folder: the jobs that its launches requested, and the state of each.

sweep.json         the launches: the command, and its jobs by the name of their folder
<overrides>/       a job's run folder, see src/runs/folder.py
plan.json          what plan=true expected of the jobs
.replaced/         runs that on_conflict=rerun moved aside
.refused/          a file for each job that the latest launch refused to run
"""

import math
import re
import shlex
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from filelock import FileLock
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException

from src.runs.command import command
from src.runs.escaping import plural, printable
from src.runs.file_schema import Launch, Launches, Plan, Results, parse, read_json
from src.runs.files import relative
from src.runs.folder import RunFolder, accuracy, write_json
from src.runs.trust import CONF, trusted
from src.sweeps.naming import LAUNCHERS, SWEEPS

SCHEMA_VERSION = 1
ENDED = ("completed", "pruned")  # the states of a job that a relaunch need not run
_MOST_ROWS = 200  # of a table of jobs
_MOST_VALUES = 1000  # of one key, in a command that is recommended


class Job(NamedTuple):
    """One job of a sweep, requested or found.

    ``overrides`` are those that its run was started with, else those of the latest launch that requested it, as
    ``key=value``; if neither is recorded, the parts of its folder's name.
    ``results`` is the content of results.json; while a job is running, its ``images_per_second`` is the latest epoch's.
    """

    overrides: tuple[str, ...]
    folder: Path | None  # None if it never started
    state: str  # completed, pruned, running, interrupted, failed, missing (never started), unreadable (damaged)
    error: str | None  # why it is not completed, in one line
    curve: list[dict[str, float]]  # the rows of metrics.csv
    epochs: int  # finished so far
    max_epochs: int | None  # of the whole run; None if unknown
    results: Results
    name: str  # of its folder within the sweep
    launches: tuple[int, ...] = ()  # those of sweep.json that requested it
    planned: float | None = None  # seconds of training that plan=true expected


def find_sweep(sweep: str) -> Path:
    """The folder of a sweep, by its path or its name.

    Raises:
        FileNotFoundError: there is none.
    """
    for folder in (SWEEPS / sweep, Path(sweep)):
        if folder.is_dir():
            return folder
    raise FileNotFoundError(f"There is no sweep {sweep}; {known_sweeps()}.")


def known_sweeps() -> str:
    """The names of all sweeps, in words."""
    nested = {file.parents[1]: file.parent for file in SWEEPS.glob("*/*/sweep.json")}
    names = sorted(place(folder) for folder in {*SWEEPS.glob("[!.]*"), *nested.values()} - nested.keys())
    return f"in {SWEEPS} there are: {', '.join(names) or 'none'}"


def record_launch(
    sweep: Path,
    overrides: Sequence[str],
    asked: Mapping[str, Sequence[str]],
    module: str = "src.train",
    *,
    unfinished: bool = False,
) -> None:
    """Add a launch to sweep.json, unless it is already there.

    Args:
        overrides: of its command.
        asked: overrides of its jobs, by folder name.
        module: of its command, src.train or src.tune.
        unfinished: see ``Launch``.
    """
    sweep.mkdir(parents=True, exist_ok=True)
    with FileLock(sweep / ".sweep.json.lock"):
        launches = _launches(sweep)
        jobs = {name: list(job) for name, job in asked.items()}
        launch: Launch = {"command": launch_command(sweep, overrides, module), "jobs": jobs}
        if unfinished:
            launch["unfinished"] = True
        if launch not in launches:
            same = [other for other in launches if other["command"] == launch["command"]]
            launch["jobs"] = {name: job for other in [*same, launch] for name, job in other["jobs"].items()}
            others = [other for other in launches if other not in same]
            write_json(sweep / "sweep.json", {"schema": SCHEMA_VERSION, "launches": [*others, launch]})


ANY = "*"  # in plan.json: every job without an estimate of its own


def record_plan(sweep: Path, seconds: Mapping[str, float]) -> None:
    """Write the seconds of training expected of jobs, by folder name or ``ANY``, to plan.json; others stay."""
    sweep.mkdir(parents=True, exist_ok=True)
    with FileLock(sweep / ".sweep.json.lock"):
        write_json(sweep / "plan.json", {"schema": SCHEMA_VERSION, "seconds": {**planned(sweep), **seconds}})


def planned(sweep: Path) -> dict[str, float]:
    """The content of plan.json; empty if there is none, or it is damaged."""
    with suppress(OSError, ValueError):
        return read_json(sweep / "plan.json", Plan)["seconds"]
    return {}


def jobs(sweep: Path) -> list[Job]:
    """Every job of a sweep: the requested ones, in that order, then other run folders.

    Raises:
        FileNotFoundError: there is no such folder.
    """
    if not sweep.is_dir():
        raise FileNotFoundError(f"There is no sweep {sweep}.")
    launches = [launch["jobs"] for launch in _launches(sweep)]
    known = {name: overrides for asked in launches for name, overrides in asked.items()}
    found = sorted(file.parent.name for file in sweep.glob("[!.]*/results.json"))
    seconds = planned(sweep)
    return [
        _job(sweep / name, known.get(name, printable(name).split(",")))._replace(
            launches=tuple(place for place, asked in enumerate(launches) if name in asked),
            planned=seconds.get(name, seconds.get(ANY)),
        )
        for name in dict.fromkeys([*known, *found])
    ]


def place(sweep: Path) -> str:
    """The value of ``sweep`` in a command: the name of a folder in logs/train/sweeps, else its path."""
    path = relative(sweep)
    return str(path.relative_to(SWEEPS) if path.is_relative_to(SWEEPS) else path)


def launch_command(sweep: Path, overrides: Sequence[str], module: str = "src.train") -> str:
    """The command that runs the unfinished jobs of a sweep."""
    named = sweep.resolve().is_relative_to(SWEEPS.resolve())
    flag = ["--multirun"] if module == "src.train" else []
    return command(module, *flag, *overrides, **{"sweep" if named else "hydra.sweep.dir": place(sweep)})


def overrides_of(words: Sequence[str]) -> list[str]:
    """The arguments of a multirun without ``--multirun`` and those that set its folder."""
    places = re.compile(r"-m$|--multirun$|sweep=|hydra\.sweep\.dir=|hydra\.mode=")
    return [word for word in words if not places.match(word.lstrip("+"))]


def commands(sweep: Path, found: Sequence[Job] | None = None, *, finish: bool = True, seeds: int = 0) -> list[str]:
    """The commands that finish the sweep: for every job that is not completed, the latest launch that requested it.
    Without ``finish``, those that made it: for every job, likewise.

    Users will run these commands, but sweep.json may be untrusted. So launches that do more than choose configurations
    of conf/ and set plain values are left out.

    Args:
        found: its ``jobs``, if they are known.
        seeds: how many new ones the commands train instead; 0 repeats those of the launches.
    """
    found, launches = found or jobs(sweep), _launches(sweep)
    latest = {name: launch["command"] for launch in launches for name in launch["jobs"]}
    left = [job.name for job in found if job.state not in ENDED or not finish]
    wanted = [latest[name] for name in left if name in latest]
    wanted += [launch["command"] for launch in launches if launch.get("unfinished")]
    harmless = filter(None, map(_harmless, dict.fromkeys(wanted)))
    again = [(module, _with_more_seeds(words, found, seeds) if seeds else words) for module, words in harmless]
    return list(dict.fromkeys(launch_command(sweep, words, module) for module, words in again))


def _with_more_seeds(overrides: Sequence[str], found: Sequence[Job], seeds: int) -> list[str]:
    """A launch with the next whole numbers for its seeds; one that adds seeds itself gets a higher limit."""
    used = {job.results["seed"] for job in found if "seed" in job.results}
    first = max(used, default=0) + 1
    new = f"seed={first}" if seeds == 1 else f"seed=range({first},{first + seeds})"
    for adding, limit in (("until=", "max_seeds"), ("tuner=", "best_seeds")):
        if any(override.startswith(adding) for override in overrides):
            new = f"{limit}={len(used) + seeds}"
    return [override for override in overrides if override.split("=")[0] != new.split("=")[0]] + [new]


def how_to_finish(sweep: Path, found: Sequence[Job]) -> str:
    """How to finish a sweep, one line per command; empty if its jobs, ``found``, leave nothing to do."""
    finish = commands(sweep, found)
    if not finish and any(job.state not in ENDED for job in found):
        return (
            "To finish the sweep, give its command again. It is not repeated here, as it sets more than plain values, "
            "or is none of src.train or src.tune."
        )
    return "\n".join(f"To finish the sweep: {line}" for line in finish)


def _harmless(text: str) -> tuple[str, list[str]] | None:
    """The module and the overrides of a launch's command; None if they may do more than configure runs."""
    try:
        program, words = shlex.split(text)[:3], overrides_of(shlex.split(text)[3:])
        plain = "".join(words).isprintable() and all(map(_is_plain, OverridesParser.create().parse_overrides(words)))
    except (ValueError, HydraException):
        return None
    known = program in (["python", "-m", "src.train"], ["python", "-m", "src.tune"])
    return (program[2], words) if plain and known else None


def _is_plain(override: Override) -> bool:
    """Whether an override chooses from conf/, or sets a value that ``trusted`` accepts.

    Raises:
        ValueError, HydraException: it sets another value.
    """
    key, values = override.key_or_group, [override.value()]
    if override.package or not re.fullmatch(r"\w+([/.]\w+)*", key) or "\\" in str(override.input_line):
        return False
    if key.startswith("hydra"):
        launcher = key == "hydra/launcher" and values[0] in LAUNCHERS
        return launcher or (key.startswith("hydra.launcher.") and isinstance(values[0], int | float | None))
    if override.is_interval_sweep():
        values = [values[0].start, values[0].end]  # type: ignore[union-attr]
    elif override.is_sweep_override():
        values = list(islice(override.sweep_iterator(), _MOST_VALUES + 1))
        if len(values) > _MOST_VALUES:
            return False
        if not all(isinstance(value, int | float) for value in values):  # which cannot be quoted, or hold anything
            texts = override.sweep_string_iterator()
            values = [OverridesParser.create().parse_override(f"{key}={text}").value() for text in texts]
    if (CONF / key).is_dir():
        names = [name for value in values if value for name in (value if isinstance(value, list) else [value])]
        return all((CONF / key / f"{name}.yaml").is_file() and re.fullmatch(r"\w+", str(name)) for name in names)
    for value in values:
        for part in reversed(key.split(".")):
            value = {part: value}
        trusted(value)
    return "/" not in key and key not in ("resume", "trust")


def refusal_file(folder: Path) -> Path:
    """The file that says why the latest launch refused a job. It is outside the job's folder, which stays unchanged."""
    return folder.parent / ".refused" / folder.name


def show(sweep: Path, found: Sequence[Job], *, everything: bool = False) -> None:
    """Print a table of jobs. Parts of their names that are the same for all are left out.

    Args:
        everything: list every job; else, of more than ``_MOST_ROWS`` jobs, only those that one may have to look at.
    """
    from rich.console import Console
    from rich.table import Column, Table
    from rich.text import Text

    styles = {"completed": "green", "pruned": "magenta", "running": "cyan", "interrupted": "yellow", "missing": "dim"}
    numbers = [Column(name, justify="right") for name in ("epochs", "images/s", "accuracy")]
    table = Table(Column("job", overflow="fold"), "status", *numbers, Column("remark", overflow="fold"))
    common = set.intersection(*(set(job.name.split(",")) for job in found)) if len(found) > 1 else set()
    refused = {file.name for file in refusal_file(sweep / ANY).parent.glob(ANY) if file.is_file()}
    whole = everything or len(found) <= _MOST_ROWS
    listed = [job for job in found if whole or job.state not in (*ENDED, "missing") or job.name in refused]
    for job in listed:
        state, remark = job.state, job.error or ""
        if job.name in refused:
            with refusal_file(sweep / job.name).open("rb") as file:
                state, remark = "refused", file.read(2000).decode(errors="replace")
        elif state == "running":
            remark = f"by {job.results.get('process', 'another process')}"
        measured, share = accuracy(job.results)
        speed = job.results.get("images_per_second")
        cells = (
            ", ".join(part for part in job.name.split(",") if part not in common),
            state,
            f"{job.epochs}/{job.max_epochs}" if job.max_epochs else "",
            f"{speed:,.0f}" if speed else "",
            "" if math.isnan(share) else f"{measured.split()[0]} {share:.2%}",
            remark,
        )
        style = styles.get(state, "red")
        table.add_row(*(Text(printable(cell), style if cell is state else "") for cell in cells))
    print(printable(sweep))
    if listed:
        Console(width=None if sys.stdout.isatty() else 200).print(table)  # do not wrap lines in a log file
    if left := len(found) - len(listed):
        line = command("src.status", "all=true", sweep=place(sweep))
        print(f"{plural(left, 'job')} that completed, were pruned or never started are listed by: {line}")


def _launches(sweep: Path) -> list[Launch]:
    """The launches in sweep.json, without damaged ones and without jobs whose folder would be outside the sweep."""
    launches = []
    with suppress(OSError, ValueError):
        for record in read_json(sweep / "sweep.json", Launches)["launches"]:
            with suppress(ValueError):
                launch = parse(Launch, record)
                launch["jobs"] = {name: job for name, job in launch["jobs"].items() if _is_folder_name(name)}
                launches.append(launch)
    return launches


def _is_folder_name(name: str) -> bool:
    return name == Path(name).name and name[:1] not in ("", ".") and len(name.encode()) <= 255


def _job(folder: Path, overrides: Sequence[str]) -> Job:
    run = RunFolder(folder)
    results: Results = {}
    epochs: list[dict[str, float]] = []
    error = None
    try:
        epochs, results = run.epochs(), run.results()
    except FileNotFoundError:
        pass
    except ValueError as damage:
        return Job(tuple(overrides), folder, "unreadable", printable(damage), [], 0, None, {}, folder.name)
    state = results.get("status")
    if state not in (*ENDED, "interrupted", "failed"):
        if run.is_locked():
            state = "running"
        elif run.results_file.exists() or run.last.exists():
            state, error = "interrupted", "killed"
        else:
            return Job(tuple(overrides), None, "missing", None, [], 0, None, {}, folder.name)
    latest = epochs[-1] if epochs else {}
    if state == "running" and "speed/images_per_second" in latest:
        results["images_per_second"] = latest["speed/images_per_second"]
    return Job(
        overrides=tuple(results.get("overrides", overrides)),
        folder=folder,
        state=state,
        error=error or results.get("error"),
        curve=epochs,
        epochs=results.get("epochs") or int(latest.get("epoch", 0)),
        max_epochs=results.get("config", {}).get("trainer", {}).get("max_epochs"),
        results=results,
        name=folder.name,
    )
