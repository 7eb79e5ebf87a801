"""Optuna's study of a search, in the folder of its sweep: study.journal.

Sampler and pruner are not in the file; they are built from the configuration.
"""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from filelock import FileLock
from omegaconf import DictConfig

from src.runs.errors import sentence
from src.runs.escaping import plural, printable
from src.runs.files import read_regular
from src.runs.trust import instantiate

if TYPE_CHECKING:
    from optuna import Study, Trial
    from optuna.storages import JournalStorage

_NAME = "search"
FILE = "study.journal"


def open_study(sweep: Path, objectives: int = 1) -> "Study":
    """The study of a sweep, which is created if there is none; every objective is to be highest.

    Raises:
        ValueError: Optuna is not installed, the file cannot be read, or the study has another number of objectives.
    """
    optuna = _optuna()
    with _reading(sweep):
        highest = ["maximize"] * objectives
        study = optuna.create_study(storage=_storage(sweep), study_name=_NAME, directions=highest, load_if_exists=True)
    if len(study.directions) != objectives:
        raise ValueError(
            f"The search in {sweep} has {plural(len(study.directions), 'objective')}, not {objectives}: choose another "
            "sweep=NAME."
        )
    return study


def read_study(sweep: Path) -> "Study":
    """The study of a sweep, in memory: nothing is written beside a file that may be a stranger's.

    Raises:
        ValueError: Optuna is not installed, or the file cannot be read.
    """
    optuna = _optuna()
    memory = optuna.storages.InMemoryStorage()
    with _reading(sweep), TemporaryDirectory() as place:
        Path(place, FILE).write_bytes(read_regular(sweep / FILE))
        copy = _storage(Path(place))
        optuna.copy_study(from_study_name=_NAME, from_storage=copy, to_storage=memory, to_study_name=_NAME)
    return optuna.load_study(study_name=_NAME, storage=memory)


def open_trial(
    sweep: Path, number: int, sampler: DictConfig | None = None, pruner: DictConfig | None = None
) -> "Trial":
    """A trial of the study that is not finished, by its number. It suggests the values that it has, and new ones where
    it has none.

    Args:
        sampler, pruner: nodes of the run's configuration; without a pruner, no trial is pruned.
    """
    optuna, storage = _optuna(), _storage(sweep)
    study = optuna.load_study(
        study_name=_NAME,
        storage=storage,
        sampler=instantiate(sampler) if sampler else None,
        pruner=instantiate(pruner) if pruner else optuna.pruners.NopPruner(),
    )
    study_id = storage.get_study_id_from_name(_NAME)
    return optuna.Trial(study, storage.get_trial_id_from_study_id_trial_number(study_id, number))


@contextmanager
def _reading(sweep: Path) -> Iterator[None]:
    """Say in a sentence that the file is damaged: Optuna takes what is in it for its own, and raises anything."""
    try:
        yield
    except Exception as error:
        raise ValueError(f"{printable(sweep / FILE)} cannot be read: {sentence(error).rstrip('.')}.") from None


def _optuna() -> Any:
    try:
        import optuna
    except ModuleNotFoundError:
        raise ValueError("A search needs Optuna, which is not installed; run: uv sync --extra tune") from None
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
    return optuna


def _storage(sweep: Path) -> "JournalStorage":
    """The file, without a line that a process was killed in. The system frees its lock when a process ends, however it
    ends; Optuna's own locks would stay."""
    from optuna.storages.journal import JournalFileBackend, JournalStorage

    file = sweep / FILE
    lock: Any = FileLock(sweep / f".{FILE}.lock")
    with lock:
        whole = read_regular(file) if file.exists() else b""
        if not whole.endswith(b"\n"):
            file.write_bytes(whole[: whole.rfind(b"\n") + 1])
    return JournalStorage(JournalFileBackend(str(file), lock_obj=lock))
