"""A search: a sweep whose jobs, the trials, Optuna chooses one after the other (``python -m src.tune``).

A launcher starts workers. Each takes a trial, runs it, and takes the next until there are enough, so that none waits
for another. Beside the run folders, the folder of the sweep has

study.journal      Optuna's study
.trials/<number>   locked by the process that runs this trial, and free when that has ended, however it ended
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from importlib.util import find_spec
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any, NamedTuple

from filelock import FileLock, Timeout
from hydra.core.override_parser.types import IntervalSweep, Override, RangeSweep
from hydra.core.plugins import Plugins
from hydra.core.utils import run_job
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf, open_dict

from src.runs.command import command
from src.runs.escaping import plural, printable
from src.runs.folder import RunFolder, check_direction, signed
from src.runs.study import open_study, open_trial
from src.runs.trust import TRAINING_ONLY, trust_override
from src.sweeps.design import given, is_seed
from src.sweeps.jobs import jobs, record_launch, refusal_file
from src.sweeps.multirun import SweepSummary
from src.sweeps.naming import slots

if TYPE_CHECKING:
    from optuna import Study, Trial

_COSTS = ("seconds", "parameters", "flops_per_image")  # of results.json, that may be objectives


def search(context: HydraContext, task: TaskFunction, config: DictConfig) -> list[list[str]]:
    """Search by the launcher of a multirun's configuration, and print the best trial.

    Args:
        task: runs one job.
        config: with Hydra's node.

    Returns:
        The overrides of the jobs that are left to do: the best trials with more seeds.

    Raises:
        ValueError, HydraException: the configuration describes no search.
    """
    worker = Worker(context, task, config)
    worker.try_failed_again()
    if config.hydra.runtime.choices["hydra/launcher"] == "basic":
        worker()
    else:
        launcher = Plugins.instance().instantiate_launcher(hydra_context=context, task_function=worker, config=config)
        places = [f"hydra.sweep.subdir=.workers/{number}" for number in range(min(slots(config), config.trials))]
        for job in launcher.launch([[place, "hydra.output_subdir=null"] for place in places], initial_job_idx=0):
            _ = job.return_value  # raises the error of a worker that raised one
    study = open_study(worker.sweep, len(config.objectives))
    if left := _unfinished(study):
        print(f"{plural(len(left), 'trial')} are not finished: another process runs them, or the next launch will.")
        return []
    return SweepSummary.current.request(config, _best_again(study, config))


class Worker:
    """Runs trials of the search that a multirun's configuration describes. Launchers send it to their processes."""

    def __init__(self, context: HydraContext, task: TaskFunction, config: DictConfig) -> None:
        self.context, self.task, self.config = context, task, config
        self.sweep, self.command = Path(config.hydra.sweep.dir), SweepSummary.current.command
        _check_settings(config)
        self.constant, self.space = _space_of(config)
        composed = {
            group: {
                choice: self._compose([*self.constant, f"{group}={choice}"]) for choice in self.space[group].values()
            }
            for group in self.space
            if context.config_loader.get_group_options(group)
        }
        self.having = {key: self._choices_having(key, composed) for key in self.space}
        _check_job(self._compose(self._overrides(lambda key: self.space[key].first())))
        self.done: set[int] = set()  # trials that this worker has run
        self.failed = 0  # trials, in former launches

    def try_failed_again(self) -> None:
        """Have the trials that failed in former launches tried again, each in a new trial."""
        from optuna.trial import TrialState, create_trial

        with self._lock("all"):
            study = open_study(self.sweep, len(self.config.objectives))
            trials = study.get_trials(deepcopy=False)
            failed = [trial for trial in trials if trial.state == TrialState.FAIL]
            others = [trial.params for trial in trials if trial.state != TrialState.FAIL]
            for trial in {repr(trial.params): trial for trial in failed if trial.params not in others}.values():
                again = create_trial(state=TrialState.WAITING, params=trial.params, distributions=trial.distributions)
                study.add_trial(again)
            self.failed = len(failed)

    def draws(self) -> list[list[str]]:
        """The overrides of jobs as the trials, and the best ones with more seeds, may be: with random choices, and the
        first number of a range."""
        draw, config = Random(0), self.config
        count = config.trials + config.best * (config.best_seeds - 1)
        of = {key: may_be.arguments.get("choices", [may_be.first()]) for key, may_be in self.space.items()}
        return [self._overrides(lambda key: draw.choice(of[key])) for _ in range(count)]

    def __call__(self, _: DictConfig | None = None) -> None:
        """Run trials until there are enough."""
        record_launch(self.sweep, self.command, {}, "src.tune", unfinished=True)
        while taken := self._take():
            number, lock = taken
            with lock:
                self._run(number)

    def _choices_having(self, key: str, composed: Mapping[str, Mapping[str, DictConfig]]) -> Sequence[str] | None:
        """The choices of its group that have ``key``; None if its group is not searched.

        Raises:
            HydraException: none has it.
        """
        parent, _, name = key.rpartition(".")
        group = parent.split(".")[0]
        if group not in composed:
            return None
        nodes = {choice: OmegaConf.select(config, parent) for choice, config in composed[group].items()}
        having = [choice for choice, node in nodes.items() if isinstance(node, DictConfig) and name in node]
        if not having:
            self._compose([*self.constant, f"{group}={next(iter(nodes))}", f"{key}=null"])  # raises
        return having

    def _overrides(self, suggest: Callable[[str], Any]) -> list[str]:
        """The overrides of a job: the constant ones, and a value for every key that the job's choices have."""
        chosen: dict[str, Any] = {}
        for key in sorted(self.space, key=lambda key: self.having[key] is not None):
            having = self.having[key]
            if having is None or chosen[key.split(".")[0]] in having:
                chosen[key] = suggest(key)
        return [*self.constant, *(f"{key}={value}" for key, value in chosen.items())]

    def _compose(self, overrides: list[str]) -> DictConfig:
        """The configuration of a job, with Hydra's node."""
        return self.context.config_loader.load_sweep_config(self.config, overrides)

    def _lock(self, name: str) -> FileLock:
        (self.sweep / ".trials").mkdir(parents=True, exist_ok=True)
        return FileLock(self.sweep / ".trials" / name)

    def _take(self) -> tuple[int, AbstractContextManager[Any]] | None:
        """A trial and its lock, acquired: one that a killed process left, else a new one; None if there are enough."""
        from optuna.trial import TrialState

        with self._lock("all"):
            study = open_study(self.sweep, len(self.config.objectives))
            for number in sorted(_unfinished(study) - self.done):
                with suppress(Timeout):
                    return number, self._lock(str(number)).acquire(timeout=0)
            enough = len(study.trials) - self.failed >= self.config.trials or "exhausted" in study.user_attrs
            if enough and not study.get_trials(deepcopy=False, states=[TrialState.WAITING]):
                return None
            number = study.ask().number
            return number, self._lock(str(number)).acquire()

    def _run(self, number: int) -> None:
        """Run a trial as a job, and tell the study what became of it."""
        nodes = OmegaConf.masked_copy(self.config, ["tuner", "pruner", "trainer"])
        nodes.tuner.trial = number
        trial = open_trial(self.sweep, number, nodes.tuner.sampler, nodes.get("pruner"))
        overrides = [*self._overrides(lambda key: self.space[key].suggest(trial, key)), f"tuner.trial={number}"]
        config = self._compose(overrides)
        with open_dict(config):
            config.hydra.job.id = config.hydra.job.num = number
        folder = RunFolder(self.sweep / config.hydra.sweep.subdir)
        trial.set_user_attr("folder", folder.path.name)
        record_launch(self.sweep, self.command, {folder.path.name: overrides}, "src.tune", unfinished=True)
        refusal_file(folder.path).unlink(missing_ok=True)
        job = run_job(
            hydra_context=self.context,
            task_function=self.task,
            config=config,
            job_dir_key="hydra.sweep.dir",
            job_subdir_key="hydra.sweep.subdir",
        )
        _ = job.return_value  # raises the error of a job that raised one
        self.done.add(number)
        self._tell(trial, folder)

    def _tell(self, trial: "Trial", folder: RunFolder) -> None:
        """Tell the study what results.json says. It is told nothing of a run that has not ended, as after a full disk:
        the next launch goes on with it."""
        from optuna.trial import TrialState

        states = {"completed": TrialState.COMPLETE, "pruned": TrialState.PRUNED, "failed": TrialState.FAIL}
        results = folder.results() if folder.results_file.exists() else {}
        state = TrialState.FAIL if refusal_file(folder.path).exists() else states.get(results.get("status", ""))
        if state is None:
            return
        measures: Any = {**results, **results.get("metrics", {})}
        values: Any = [signed(measures, objective) for objective in self.config.objectives]
        try:
            trial.study.tell(trial, values if state == TrialState.COMPLETE else None, state)
        except RuntimeError:  # a sampler that has tried everything stops the study
            trial.study.set_user_attr("exhausted", True)


def _best_again(study: "Study", config: DictConfig) -> list[list[str]]:
    """Print the best trials; the overrides of the jobs that repeat them with other seeds."""
    from optuna.trial import TrialState

    completed = study.get_trials(states=[TrialState.COMPLETE])
    pruned = len(study.get_trials(deepcopy=False, states=[TrialState.PRUNED]))
    print(f"{plural(len(completed), 'trial')} completed, {pruned} pruned.")
    several = len(config.objectives) > 1  # then the best are those that no other beats in all of them
    best = study.best_trials if several else sorted(completed, key=lambda trial: -trial.values[0])
    found = {job.name: job for job in jobs(Path(config.hydra.sweep.dir))}
    again = []
    for trial in best[: config.best]:
        job = found[trial.user_attrs["folder"]]
        measured = zip(config.objectives, trial.values, strict=True)
        values = ", ".join(f"{name.removeprefix('-')} {abs(value):.4g}" for name, value in measured)
        print(f"trial {trial.number}, {values}: {printable(job.name)}")
        constant = [word for word in job.overrides if not word.startswith(("seed=", "tuner.trial="))]
        seeds = range(job.results["seed"] + 1, job.results["seed"] + config.best_seeds)
        again += [[*constant, f"seed={seed}"] for seed in seeds]
    if best:
        job = found[best[0].user_attrs["folder"]]
        trust = trust_override(job.results["config"], TRAINING_ONLY)
        line = command("src.eval", *trust, ckpt=RunFolder(job.folder or "").best)
        print(f"To test the best one{' once more' * bool(config.test)}: {line}")
    return again


# ---- The study -------------------------------------------------------------------------------------------------------


def _unfinished(study: "Study") -> set[int]:
    """The numbers of the trials that a process runs, or ran when it was killed."""
    from optuna.trial import TrialState

    return {trial.number for trial in study.get_trials(deepcopy=False, states=[TrialState.RUNNING])}


# ---- The space -------------------------------------------------------------------------------------------------------


class Range(NamedTuple):
    """What a key of the search may be: the method of Optuna's trial that suggests a value, and its arguments."""

    method: str
    arguments: dict[str, Any]

    def suggest(self, trial: "Trial", key: str) -> Any:
        return getattr(trial, self.method)(key, **self.arguments)

    def values(self) -> Sequence[Any]:
        """All of them; none of an interval of numbers."""
        if "step" in self.arguments:
            return range(self.arguments["low"], self.arguments["high"] + 1, self.arguments["step"])
        return self.arguments.get("choices", ())

    def first(self) -> Any:
        return self.arguments["low"] if "low" in self.arguments else self.arguments["choices"][0]


def _space_of(config: DictConfig) -> tuple[list[str], dict[str, Range]]:
    """The overrides of all trials, and what is searched, by key.

    Raises:
        ValueError: a range is invalid, a seed is searched, or nothing is.
    """
    constant, space = [], {}
    for key, override in given(config).items():
        if not override.is_sweep_override():
            constant.append(f"{key}={override.get_value_element_as_str()}")
        elif is_seed(key):
            raise ValueError(
                f"{override.input_line} would choose the luckiest seed: give one, and seeds=3 to run the best trials "
                "again with more."
            )
        else:
            space[key] = _range(override)
    if not space:
        raise ValueError("Nothing is searched: give ranges or values, such as 'optim.lr=log(1e-3,1)' optim=sgd,adamw.")
    endless = [key for key in space if not space[key].values()]
    if endless and config.tuner.sampler._target_.endswith("BruteForceSampler"):
        raise ValueError(
            f"tuner=grid tries all values, and {endless[0]} is an interval: give values, {endless[0]}=1,2,3."
        )
    return constant, space


def _range(override: Override) -> Range:
    values = override.value()
    if isinstance(values, IntervalSweep):
        low: Any = values.start
        high: Any = values.end
        logarithmic, whole = "log" in values.tags, isinstance(low, int)
        if not low < high:
            raise ValueError(f"{override.input_line} is empty: the first number must be below the second.")
        if logarithmic and low <= 0:
            raise ValueError(f"{override.input_line} is logarithmic, so it must begin above 0.")
        arguments = {"low": low, "high": high, "log": logarithmic} | ({"step": 1} if whole else {})
        return Range("suggest_int" if whole else "suggest_float", arguments)
    texts = list(override.sweep_string_iterator())
    if not texts:
        raise ValueError(f"{override.input_line} is empty.")
    if isinstance(values, RangeSweep) and all(text.isdigit() for text in texts) and values.step > 0:
        numbers = range(int(texts[0]), int(texts[-1]) + 1, int(values.step or 1))
        return Range("suggest_int", {"low": numbers[0], "high": numbers[-1], "step": numbers.step})
    return Range("suggest_categorical", {"choices": texts})


def _check_settings(config: DictConfig) -> None:
    """Raise a ValueError unless the settings of conf/tuner are valid."""
    for name in ("trials", "best", "best_seeds", "workers"):
        if not (type(config[name]) is int and config[name] > 0) and (name, config[name]) != ("workers", None):
            raise ValueError(f"{name} is {config[name]!r}; expected a whole number, 1 or more.")
    if config.get("until") or config.hydra.runtime.choices.get("design") != "grid":
        raise ValueError("until and design choose the jobs of a multirun, and so does a search: leave them out.")
    if config.tuner.sampler._target_.endswith("CmaEsSampler") and find_spec("cmaes") is None:
        raise ValueError("tuner=cmaes needs the package cmaes, which is not installed; run: uv sync --extra tune")
    if len(config.objectives) != 1 and config.get("pruner"):
        raise ValueError("Trials of several objectives cannot be pruned: leave out pruner, or give one objective.")


def _check_job(config: DictConfig) -> None:
    """Raise a ValueError unless jobs of this configuration can be compared."""
    known = [f"val/{name}" for name in ("accuracy", "loss", *(config.get("metrics") or {}))] + [*_COSTS]
    for objective in config.objectives:
        if str(objective).removeprefix("-") not in known:
            raise ValueError(
                f"objectives has {objective}; expected some of {', '.join(known)}, with a minus before it where lower "
                "is better. The test set does not choose."
            )
        check_direction("objectives", str(objective))
    if config.data.val_size == 0:
        raise ValueError("data.val_size is 0, and a search compares validation images: set data.val_size=0.1.")
