"""The start and end of a multirun: its jobs, their names, and the table of their results.

A launcher's processes import this module before they compose a job's configuration, when they unpickle the callback.
"""

import os
import sys
from collections import Counter
from contextlib import suppress
from copy import deepcopy
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar

from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf, open_dict, read_write

from src.data.content_hash import clear_cache
from src.runs.command import command
from src.runs.errors import sentence, stop
from src.runs.escaping import plural
from src.runs.files import check_stays_within
from src.runs.identity import is_neutral
from src.runs.job_output import concurrent_job_name, prefix_output
from src.runs.trust import check_keys, check_targets
from src.sweeps.code import keep_code
from src.sweeps.design import jobs_of, values_of
from src.sweeps.jobs import ENDED, how_to_finish, jobs, overrides_of, place, record_launch, refusal_file, show
from src.sweeps.naming import SWEEPS  # registers the resolvers that conf/train.yaml uses, too
from src.sweeps.skip import left_of

_SHARED = ("experiment", "scale", "data", "trainer", "callbacks")  # usually the same for all jobs of a sweep
_SET_ANOTHER = ("label_smoothing", "lr_multiplier", "seeds.split")  # neutral: what is computed from them counts


class SweepSummary(Callback):
    """Name the jobs of a multirun and record them as requested. At its end, print a table of all jobs of the sweep, and
    exit with 1 unless all jobs of this launch completed."""

    sweep: Path | None = None  # of this process's latest launch
    current: ClassVar["SweepSummary"]  # of that launch

    def __init__(self) -> None:
        self.asked: dict[str, list[str]] = {}  # overrides of this launch's jobs, by folder name

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        plugin = ".".join(config.hydra.launcher._target_.split(".")[:2])
        if find_spec(plugin) is None:
            launcher = config.hydra.runtime.choices["hydra/launcher"]
            raise SystemExit(f"hydra/launcher={launcher} is not installed; run: uv sync --extra {launcher}")
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # no usage reports to Ray's developers
        # Under "uv run", Ray would also start its workers with "uv run", in a folder without a project.
        os.environ.setdefault("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")
        clear_cache()  # images may have changed since this process read them
        SweepSummary.sweep, SweepSummary.current = None if config.plan else Path(config.hydra.sweep.dir), self
        _split(config, "resume", "resume continues one run, without --multirun")
        try:
            _check_name(config)
            check_stays_within(Path(config.hydra.sweep.dir))  # before Hydra writes there
            told = "" if config.plan else keep_code(Path(config.hydra.sweep.dir), config.on_code_change)
        except (ValueError, OSError) as error:
            stop(error, debug=config.debug)
        print(told, end="\n" * bool(told))
        _check_targets(config)
        self._name_jobs(config)

    def _name_jobs(self, config: DictConfig) -> None:
        """Leave overrides that are not swept out of the jobs' folder names, if they are neutral or in ``_SHARED``.

        Other overrides stay in the name even with one value, so that a wider grid later finds the same folder.
        """
        fixed = [*config.hydra.job.config.override_dirname.exclude_keys, "tuner.trial"]
        given = OverridesParser.create().parse_overrides(list(config.hydra.overrides.task))
        fixed += [
            key
            for key, override in {override.key_or_group: override for override in given}.items()  # the last of each
            if not override.is_sweep_override() and _is_shared(key)
        ]
        options = [word for word in sys.argv[1:] if word[0] == "-" or "=" not in word]
        options = [word for word in options if word not in config.hydra.overrides.task]
        overrides = overrides_of([*options, *config.hydra.overrides.task, *config.hydra.overrides.hydra])
        # Hydra composes every job's config from the overrides recorded here.
        with read_write(config.hydra):
            config.hydra.overrides.hydra.append(f"hydra.job.config.override_dirname.exclude_keys=[{','.join(fixed)}]")
        self.command, self.fixed = overrides, fixed
        if config.hydra.runtime.choices["hydra/sweeper"] == "basic":  # others choose jobs during the sweep
            with suppress(HydraException):  # Hydra reports it
                self.request(config, jobs_of(config))

    def request(self, config: DictConfig, jobs: list[list[str]]) -> list[list[str]]:
        """Record jobs, the overrides of each, as requested by this launch.

        Returns:
            Those that may still have something to do, see ``src.sweeps.skip``.

        Raises:
            HydraException: one cannot be composed.
        """
        sweep = Path(config.hydra.sweep.dir)
        composed = _composed(config, jobs)
        self.asked |= (named := by_folder(config, jobs, self.fixed))
        # Without the others, a job has another number, which may be in a user's own name.
        left = jobs if _own_name(config) else [named[name] for name in left_of(sweep, named)]
        try:
            for job in composed if left else ():  # importing what they name takes seconds
                check_keys(job)
                check_targets(job)
        except ValueError as error:
            stop(error, debug=config.debug)
        try:
            record_launch(sweep, self.command, self.asked, "src.tune" if config.get("tuner") else "src.train")
            for name in named:
                refusal_file(sweep / name).unlink(missing_ok=True)
        except OSError as error:  # Hydra would only warn
            raise SystemExit(sentence(error)) from None
        return left

    def on_job_start(self, config: DictConfig, **_: Any) -> None:
        if (job := concurrent_job_name(config.hydra)) is not None:
            prefix_output(job)

    def on_multirun_end(self, config: DictConfig, **_: Any) -> None:
        if config.get("plan") or sys.exc_info()[0] is not None:  # Hydra 1.4 also calls this after an error
            return
        sweep = Path(config.hydra.sweep.dir)
        found = jobs(sweep)
        show(sweep, found)
        states = Counter(job.state for job in found)
        pruned = f", {states['pruned']} pruned" * bool(states["pruned"])
        print(f"{states['completed']} of {plural(len(found), 'job')} completed{pruned}.")
        if finish := how_to_finish(sweep, found):
            print(finish)
        if states["completed"]:
            print(f"To sum it up: {command('src.report', sweep=place(sweep))}")
        requested = self.asked or [job.name for job in found]
        ended = [job.name for job in found if job.state in ENDED]
        if any(name not in ended or refusal_file(sweep / name).exists() for name in requested):
            raise SystemExit(1)


def _is_shared(key: str) -> bool:
    return key.split(".")[0] in _SHARED or (is_neutral(key) and key not in _SET_ANOTHER)


def _check_name(config: DictConfig) -> None:
    """Raise a ValueError unless ``sweep`` is the name of one folder within that of all sweeps."""
    words = OverridesParser.create().parse_overrides(list(config.hydra.overrides.task))
    given = [word for word in words if word.key_or_group == "sweep"]
    parts = Path(str(config.sweep)).parts if isinstance(config.sweep, str | int | float) else ()
    if not parts or ".." in parts or any(word.is_sweep_override() for word in given):
        name = given[-1].input_line if given else f"sweep={config.sweep}"
        raise ValueError(f"{name}: expected the name of one folder, which {SWEEPS} is to have; or leave it out.")


def _split(config: DictConfig, key: str, why: str, *options: str) -> None:
    """Refuse a multirun over ``key``, and print the command for each of its values.

    Raises:
        SystemExit: ``key`` is among the overrides.
    """
    parsed = OverridesParser.create().parse_overrides(list(config.hydra.overrides.task))
    others = [str(override.input_line) for override in parsed if override.key_or_group not in (key, "sweep")]
    for override in parsed:
        if override.key_or_group == key and override.value() is not None:
            swept = override.is_discrete_sweep()
            values = override.sweep_string_iterator() if swept else [override.get_value_element_as_str()]
            commands = [command("src.train", *options, f"{key}={value}", *others) for value in values]
            raise SystemExit(f"{why}: {'; '.join(commands)}")


def _check_targets(config: DictConfig) -> None:
    """Refuse a multirun over the choices of a group whose ``_target_`` is set as well: all arms would be that one.

    Raises:
        SystemExit: there is such a group.
    """
    values: dict[str, list[str]] = {}
    with suppress(HydraException):  # Hydra reports it
        values = values_of(config)
    for key in values:
        group, _, last = key.lstrip("+").rpartition(".")
        if last == "_target_" and len(values.get(group, ())) > 1:
            raise SystemExit(
                f"{key} would replace every choice of {group}: write the one of your own as a file, "
                f"mine/{group}/NAME.yaml, and choose it with --config-dir mine {group}=...,NAME."
            )


def by_folder(config: DictConfig, grid: list[list[str]], fixed: list[str]) -> dict[str, list[str]]:
    """Overrides of a multirun's jobs by folder name, in their order.

    Raises:
        HydraException: one cannot be composed.
    """
    requested = {}
    # A user's own name may depend on the job's config, ours does not; composing is slow, so it is done only if needed.
    own_name = _own_name(config)
    loader, multirun = GlobalHydra.instance().config_loader(), config
    config = deepcopy(config)
    for number, overrides in enumerate(grid):
        if own_name:
            config = loader.load_sweep_config(multirun, overrides)
        with open_dict(config.hydra), read_write(config.hydra):
            config.hydra.job.num = number
            config.hydra.overrides.task = overrides
            config.hydra.job.config.override_dirname.exclude_keys = fixed
        requested[config.hydra.sweep.subdir] = overrides
    return requested


def _own_name(config: DictConfig) -> bool:
    return any(override.startswith("hydra.sweep.subdir=") for override in config.hydra.overrides.hydra)


def _composed(config: DictConfig, grid: list[list[str]]) -> list[DictConfig]:
    """Compose as many jobs as it takes to know that Hydra can compose every override.

    Composing takes a tenth of a second, so only the first value of each key is tried, unless values choose what is
    built: either all are valid or none.

    Returns:
        The configurations, without Hydra's node.

    Raises:
        HydraException: it cannot.
    """
    jobs = []
    loader = GlobalHydra.instance().config_loader()
    parser = OverridesParser.create()
    seen: set[str] = set()

    builds = cache(lambda key: bool(loader.get_group_options(key) or key.endswith("_target_")))  # slow
    key_of = cache(lambda override: parser.parse_override(override).key_or_group)

    for overrides in grid:
        settings = {override if builds(key_of(override)) else key_of(override) for override in overrides}
        if not settings <= seen:
            composed = loader.load_sweep_config(config, overrides)
            if composed.hydra.sweeper.params != config.hydra.sweeper.params:
                _split(config, "experiment", "An experiment with a grid of its own is launched by itself", "--multirun")
            jobs.append(OmegaConf.masked_copy(composed, [str(key) for key in composed if key != "hydra"]))
        seen |= settings
    return jobs
