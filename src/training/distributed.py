"""Data parallel training: one run in several processes, each with its share of every batch (``trainer=ddp``).

One process runs Hydra and owns the run folder. It passes configuration and folder to the training processes:

- Started alone, by a user or as a job of any launcher, it starts them on this machine and supervises them.
- Started by torchrun or srun with others, it trains as rank 0; the others train the runs that it broadcasts.

Lightning itself would repeat the user's command in every process, including a whole multirun.
"""

import json
import logging
import multiprocessing
import os
import signal
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from copy import deepcopy
from datetime import timedelta
from functools import cache
from itertools import count
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf

if TYPE_CHECKING:
    from torch.distributed import Store

    from src.runs.folder import RunFolder

_HELPER_KILLED = (
    "a helper process of this run was killed (multiprocessing's forkserver or resource tracker): the run was stopped, "
    "and its last checkpoint is intact"
)
_GRACE = 10.0  # seconds for the other processes to save and exit after a failure


def distribute(cfg: DictConfig, folder: "RunFolder") -> float:
    """Run ``fit_and_test`` in as many processes as ``cfg.trainer`` requests.

    Returns:
        The result of rank 0.

    Raises:
        ValueError: torchrun or srun started another number of processes than ``cfg.trainer`` requests, or this
            system cannot start them.
        ChildProcessError: a process was killed.
        Exception: the error of the first process to fail, with its stack trace as a note.
    """
    from src.runs.trust import check_keys
    from src.training.build import build_data, process_count
    from src.training.run import fit_and_test

    if cfg.resume is None:
        check_keys(cfg)
    processes = process_count(cfg)
    _, started = rank_and_size()
    nodes = cfg.trainer.get("num_nodes", 1)
    if started != processes and (started > 1 or nodes > 1):
        raise ValueError(
            f"trainer.devices and trainer.num_nodes={nodes} ask for {processes} processes, but {started} started: "
            "start trainer.devices of them on each machine with torchrun or srun (src/sweeps/README.md)."
        )
    if started < processes and "forkserver" not in multiprocessing.get_all_start_methods():  # Windows
        raise ValueError(
            f"trainer.devices asks for {processes} processes, which this system cannot start (Linux and macOS can); "
            "use trainer.devices=1."
        )
    if processes == 1:
        return fit_and_test(cfg, folder)
    build_data(cfg)  # an error is then shown once, and only one process downloads and decodes
    plain = OmegaConf.to_container(cfg, resolve=True)
    if started > 1:
        _broadcast({"config": plain, "folder": str(folder.path)})
        return fit_and_test(cfg, folder)
    return _start_and_supervise(processes, plain, folder.path)


# ---- started by torchrun or srun -------------------------------------------------------------------------------------


def rank_and_size() -> tuple[int, int]:
    """This process's rank, and the number of processes that torchrun or srun started; 0 and 1 without them."""
    if "TORCHELASTIC_RUN_ID" in os.environ:
        return int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    if "SLURM_STEP_NUM_TASKS" in os.environ:  # not in a batch script, which runs once
        return int(os.environ["SLURM_PROCID"]), int(os.environ["SLURM_STEP_NUM_TASKS"])
    return 0, 1


def run_on_rank_0(main: Callable[[], Any]) -> None:
    """Call ``main`` on rank 0 of the processes that torchrun or srun started; the others train what it broadcasts.

    Only rank 0 may run Hydra: otherwise each process would name its own folder, by its own clock.
    """
    rank, processes = rank_and_size()
    if rank > 0:
        return _follow()
    try:
        main()
    finally:
        if processes > 1:
            _broadcast(None)
            # The store may live in rank 0, so rank 0 stays until the others have read this, or one hangs.
            with suppress(RuntimeError):
                _store().wait([f"left {other}" for other in range(1, processes)], timedelta(seconds=_GRACE))


@cache
def _store() -> "Store":
    """Key-value store of all processes: torchrun's, or one in rank 0."""
    from lightning.fabric.plugins.environments import SLURMEnvironment, TorchElasticEnvironment
    from torch.distributed import PrefixStore, rendezvous

    torchrun = TorchElasticEnvironment.detect()
    environment = TorchElasticEnvironment() if torchrun else SLURMEnvironment(auto_requeue=False)
    url = f"tcp://{environment.main_address}:{environment.main_port}"
    store, *_ = next(rendezvous(url, *rank_and_size()))
    return PrefixStore("ablation-bench", store)


_broadcasts = count()


def _broadcast(run: Mapping[str, Any] | None) -> None:
    """Send the next run to the other processes; None: there are no more runs.

    The store is used because torch's broadcast needs a process group, which Lightning creates only within a run.
    """
    _store().set(f"run {next(_broadcasts)}", json.dumps(run))


def _follow() -> None:
    """Train every run that rank 0 broadcasts."""
    from src.runs.errors import sentence
    from src.runs.folder import RunFolder
    from src.training.callbacks.interrupt import Interrupted
    from src.training.run import fit_and_test

    _silence()
    store = _store()
    for number in count():
        try:
            store.wait([f"run {number}"], timedelta(days=30))  # rank 0 may skip many completed jobs, or load data
            run = json.loads(store.get(f"run {number}"))
        except RuntimeError:
            raise SystemExit(f"process {rank_and_size()[0]}: the first process has ended.") from None
        if run is None:
            store.set(f"left {rank_and_size()[0]}", "")
            return
        try:
            fit_and_test(OmegaConf.create(run["config"]), RunFolder(run["folder"]))
        except (Interrupted, KeyboardInterrupt):
            raise SystemExit(130) from None
        except Exception as error:  # torchrun and srun then end the others
            raise SystemExit(f"process {rank_and_size()[0]}: {sentence(error)}") from None


# ---- started alone ---------------------------------------------------------------------------------------------------
# torch.multiprocessing.start_processes and elastic_launch return an error as text, not the exception. Both leave the
# workers running when this process is killed, and elastic_launch names a failed peer 10 s after the process killed.


def _start_and_supervise(processes: int, config: Any, folder: Path) -> float:
    """Train in new processes, the workers. If any process ends (a worker, this one, or a helper of multiprocessing),
    all end.

    A pipe to each worker carries stop signals there and the outcome back. The system closes it when either end dies.
    Process ids are not enough: once the forkserver is gone, they no longer reach a worker.
    """
    import rich
    import torch
    from hydra.core.hydra_config import HydraConfig
    from torch.distributed import TCPStore

    from src.runs.job_output import concurrent_job_name
    from src.training.callbacks.interrupt import STOP_SIGNALS

    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    environment = dict(os.environ) | {
        "WORLD_SIZE": str(processes),
        "LOCAL_WORLD_SIZE": str(processes),
        "GROUP_RANK": "0",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(store.port),
        # To Lightning the workers look like torchrun's: both they and the store already exist.
        "TORCHELASTIC_RUN_ID": "ablation-bench",
        "TORCHELASTIC_USE_AGENT_STORE": "True",
    }
    threads = max(1, torch.get_num_threads() // processes)
    hydra = HydraConfig.get()
    screen = {
        "logging": OmegaConf.to_container(hydra.job_logging, resolve=True),
        "terminal": rich.get_console().is_terminal,
        "job": concurrent_job_name(hydra),
    }
    # Imports take seconds: the forkserver imports once, and the workers of every run of a sweep are forked from it.
    if multiprocessing.get_start_method(allow_none=True) == "loky":  # joblib's; a worker would not know the name
        multiprocessing.set_start_method("forkserver", force=True)
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["src.training.run"])
    pipes = [context.Pipe() for _ in range(processes)]  # they buffer stop signals until a worker starts
    workers: dict[Connection, BaseProcess] = {}
    received: list[int] = []

    def forward(number: int, frame: FrameType | None) -> None:
        at_once = bool(received) and number == signal.SIGINT
        received.append(number)
        _send(number, [ours for ours, _ in pipes])
        if at_once:  # also if the workers are deadlocked
            raise KeyboardInterrupt

    in_main_thread = threading.current_thread() is threading.main_thread()  # others cannot install handlers
    former = {number: signal.signal(number, forward) for number in STOP_SIGNALS if in_main_thread}
    try:
        for rank, (ours, theirs) in enumerate(pipes):
            ranks = {"RANK": str(rank), "LOCAL_RANK": str(rank)}
            arguments = (theirs, environment | ranks, threads, config, folder, screen)
            worker: BaseProcess = context.Process(target=_work, args=arguments)
            worker.start()
            theirs.close()  # the worker has the only copy now: the pipe closes when it dies
            workers[ours] = worker
        return _first_result(workers, received)
    except EOFError:  # from starting a worker
        raise ChildProcessError(_HELPER_KILLED) from None
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)
        until = time.monotonic() + _GRACE
        for ours, theirs in pipes:
            theirs.close()
            with suppress(EOFError, OSError):  # the worker has exited
                while ours.poll(max(0.0, until - time.monotonic())):
                    ours.recv()
            ours.close()  # a worker that is still running exits, see _obey
        for worker in workers.values():
            worker.join(1)
            worker.kill()  # a suspended worker has not exited


def _first_result(workers: Mapping[Connection, BaseProcess], received: Sequence[int]) -> float:
    """Wait for all workers, or for the first to fail. Return the result of rank 0.

    Args:
        received: stop signals that were forwarded so far; the signal handler appends to it.
    """
    from src.training.callbacks.interrupt import Interrupted

    tracker = resource_tracker.getfd()  # a pipe that only the resource tracker reads: ready once it has died
    results: dict[Connection, float] = {}
    while waiting := [worker for worker in workers if worker not in results]:
        # A sentinel that is ready before the worker's own outcome means that the forkserver has died.
        helpers: list[Any] = [] if received else [tracker, *(workers[worker].sentinel for worker in waiting)]
        ready = [worker for worker in wait([*waiting, *helpers]) if worker in workers]
        if not ready:
            time.sleep(1)  # a stop signal to the whole job, such as Slurm's, kills helpers but reaches this process too
            if received or wait(waiting, 0):
                continue
            _send(signal.SIGTERM, waiting)  # save
            raise ChildProcessError(_HELPER_KILLED)
        for worker in ready:
            assert isinstance(worker, Connection)
            try:
                outcome = worker.recv()
            except (EOFError, ConnectionResetError):
                workers[worker].join()
                outcome = Interrupted(received[0]) if received else ChildProcessError("a process ended without a word")
            if isinstance(outcome, BaseException):
                if not received:
                    _check_alive(list(workers.values()))  # a killed worker is the cause of the other errors
                raise outcome
            results[worker] = outcome
    return results[next(iter(workers))]


def _check_alive(workers: Sequence[BaseProcess]) -> None:
    """Raise a ChildProcessError that names a killed worker, if there is one.

    Other workers fail in their next exchange with it, maybe before its exit is visible; so wait for that.
    """
    until = time.monotonic() + 1
    while time.monotonic() < until and {worker.exitcode for worker in workers} <= {None, 0}:
        time.sleep(0.02)
    for rank, worker in enumerate(workers):
        if (code := worker.exitcode or 0) < 0:
            why = ", as the system does when memory runs out" if code == -signal.SIGKILL else ""
            raise ChildProcessError(f"process {rank} of {len(workers)} was killed by {signal.Signals(-code).name}{why}")


def _send(number: int, workers: Iterable[Connection]) -> None:
    for worker in workers:
        with suppress(OSError):  # it has exited
            worker.send(number)


def _work(pipe: Connection, environment: dict[str, str], threads: int, config: Any, folder: Path, screen: Any) -> None:
    """The main function of a worker: send what ``fit_and_test`` returns or raises."""
    os.setsid()  # a terminal's Ctrl-C reaches only the supervisor, which forwards it; a second one would stop at once
    threading.Thread(target=_obey, args=(pipe,), daemon=True).start()
    os.environ.update(environment)
    try:
        import rich
        import torch
        from hydra.core.utils import configure_log
        from lightning.pytorch.utilities import rank_zero_only

        from src.runs.folder import RunFolder
        from src.runs.job_output import prefix_output
        from src.training.run import fit_and_test

        rank, _ = rank_and_size()
        rank_zero_only.rank = rank  # type: ignore[attr-defined]  # Lightning read it when it was imported
        torch.set_num_threads(threads)
        if rank == 0:
            rich.reconfigure(force_terminal=screen["terminal"], width=None if screen["terminal"] else 200)
            configure_log(OmegaConf.create(screen["logging"]))
            if screen["job"] is not None:
                prefix_output(screen["job"])
        else:
            _silence()
        outcome: float | BaseException = fit_and_test(OmegaConf.create(config), RunFolder(folder))
    except BaseException as error:
        outcome = _portable(error)
        outcome.add_note(f"In process {rank_and_size()[0]}:\n{traceback.format_exc()}")
    pipe.send(outcome)


def _obey(pipe: Connection) -> None:
    """Raise the stop signals that the supervisor sends. Exit when it has died, as its lock on the folder is gone."""
    with suppress(EOFError, OSError):
        while True:
            os.kill(os.getpid(), pipe.recv())
    os._exit(1)


def _portable(error: BaseException) -> BaseException:
    """The error; or a ChildProcessError with its sentence, if it cannot be pickled and rebuilt, or if the sentence says
    where the error was raised, which pickle forgets."""
    from src.runs.errors import sentence, speaks_for_itself

    if not isinstance(error, Exception) or speaks_for_itself(error):
        with suppress(Exception):
            deepcopy(error)  # rebuilds it as pickle does
            return error
    return ChildProcessError(sentence(error))


def _silence() -> None:
    """Turn off logs and warnings: rank 0 logs for all."""
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")
