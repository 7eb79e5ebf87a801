"""Data parallel training: one run in several processes, each with its share of every batch (``trainer=ddp``).

Hydra, the run folder and the last word belong to one process, which hands configuration and folder to those that train:

- Started alone, be it by a user or as a job of any launcher, it starts them on this machine and watches over them.
- Started by torchrun or srun beside others, it trains itself, as rank 0; the others wait for what it hands over.

Lightning's own way is to start the user's command anew for every process: of a multirun, all of it.
"""

import json
import os
import signal
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from copy import deepcopy
from datetime import timedelta
from functools import cache
from itertools import count
from multiprocessing import get_context, get_start_method, parent_process, set_start_method
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf

if TYPE_CHECKING:
    from torch.distributed import Store

    from src.runs.folder import RunFolder

_GRACE = 10.0  # seconds that processes have to end by themselves, once one of them has


def distribute(cfg: DictConfig, folder: "RunFolder") -> float:
    """Train as ``fit_and_test`` does, in as many processes as ``cfg.trainer`` asks for.

    Returns:
        What rank 0 returns.

    Raises:
        ValueError: the processes that torchrun or srun started are not those that ``cfg.trainer`` asks for.
        RuntimeError: a process died.
        Exception: whatever the first process to fail raised, with its stack trace as a note.
    """
    from src.training.build import build_data, process_count
    from src.training.run import fit_and_test

    processes = process_count(cfg)
    _, started = place()
    nodes = cfg.trainer.get("num_nodes", 1)
    if started > 1 and started != processes:
        raise ValueError(
            f"torchrun or srun started {started} processes, but the configuration asks for {processes}: use "
            f"trainer=ddp with trainer.num_nodes machines of trainer.devices processes each."
        )
    if started == 1 and nodes > 1:
        raise ValueError(
            f"trainer.num_nodes is {nodes}, but this process was started alone: start it on every machine with "
            "torchrun or srun (README, Many jobs, many machines)."
        )
    if processes == 1:
        return fit_and_test(cfg, folder)
    build_data(cfg)  # what is wrong with them is told once, and only one process downloads and decodes
    plain = OmegaConf.to_container(cfg, resolve=True)
    if started > 1:
        _hand_over({"config": plain, "folder": str(folder.path)})
        return fit_and_test(cfg, folder)
    return _start_and_watch(processes, plain, folder.path)


# ---------------------------------------------------------------------------------------------------------------------
# Started by torchrun or srun
# ---------------------------------------------------------------------------------------------------------------------


def place() -> tuple[int, int]:
    """This process's rank, and how many torchrun or srun started together; 0 and 1 for one that was started alone."""
    if "TORCHELASTIC_RUN_ID" in os.environ:
        return int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    if "SLURM_STEP_NUM_TASKS" in os.environ:  # not in a batch script, which runs once
        return int(os.environ["SLURM_PROCID"]), int(os.environ["SLURM_STEP_NUM_TASKS"])
    return 0, 1


def run_on_rank_0(main: Callable[[], Any]) -> None:
    """Call ``main`` in the first of the processes that torchrun or srun started; the others train what it broadcasts."""
    rank, processes = place()
    if rank > 0:
        return _follow()
    try:
        main()
    finally:
        if processes > 1:
            _hand_over(None)
            # The store may end with this process: not before all have read that. Those that hang will not.
            with suppress(RuntimeError):
                _store().wait([f"left {other}" for other in range(1, processes)], timedelta(seconds=_GRACE))


@cache
def _store() -> "Store":
    """What all processes can write to and read from: torchrun's, or one that rank 0 keeps."""
    from lightning.fabric.plugins.environments import SLURMEnvironment, TorchElasticEnvironment
    from torch.distributed import PrefixStore, rendezvous

    torchrun = TorchElasticEnvironment.detect()
    environment = TorchElasticEnvironment() if torchrun else SLURMEnvironment(auto_requeue=False)
    url = f"tcp://{environment.main_address}:{environment.main_port}"
    store, *_ = next(rendezvous(url, *place()))
    return PrefixStore("ablation-bench", store)


_handed_over = count()


def _hand_over(run: Mapping[str, Any] | None) -> None:
    """Tell the other processes what to train next; None: nothing more."""
    _store().set(f"run {next(_handed_over)}", json.dumps(run))


def _follow() -> None:
    """Train what rank 0 hands over, until there is nothing more."""
    from src.runs.errors import sentence
    from src.runs.folder import RunFolder
    from src.training.callbacks.interrupt import Interrupted
    from src.training.run import fit_and_test

    _be_silent()
    store = _store()
    for number in count():
        try:
            store.wait([f"run {number}"], timedelta(days=30))
            run = json.loads(store.get(f"run {number}"))
        except RuntimeError:
            raise SystemExit(f"process {place()[0]}: the first process has ended.") from None
        if run is None:
            store.set(f"left {place()[0]}", "")
            return
        try:
            fit_and_test(OmegaConf.create(run["config"]), RunFolder(run["folder"]))
        except (Interrupted, KeyboardInterrupt):
            raise SystemExit(130) from None
        except Exception as error:  # ends the others, too: torchrun and srun see to it
            raise SystemExit(f"process {place()[0]}: {sentence(error)}") from None


# ---------------------------------------------------------------------------------------------------------------------
# Started alone
# ---------------------------------------------------------------------------------------------------------------------


def _start_and_watch(processes: int, config: Any, folder: Path) -> float:
    import rich
    import torch
    from hydra.core.hydra_config import HydraConfig
    from torch.distributed import TCPStore

    from src.runs.screen import beside_others

    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    environment = dict(os.environ) | {
        "WORLD_SIZE": str(processes),
        "LOCAL_WORLD_SIZE": str(processes),
        "GROUP_RANK": "0",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(store.port),
        # As torchrun says it: the processes exist already, and so does the store.
        "TORCHELASTIC_RUN_ID": "ablation-bench",
        "TORCHELASTIC_USE_AGENT_STORE": "True",
    }
    threads = max(1, torch.get_num_threads() // processes)
    hydra = HydraConfig.get()
    screen = {
        "logging": OmegaConf.to_container(hydra.job_logging, resolve=True),
        "terminal": rich.get_console().is_terminal,
        "job": beside_others(hydra),
    }
    # Imports take seconds: one process does them, and is there to be copied for every run of a sweep.
    if get_start_method(allow_none=True) == "loky":  # joblib's, in its jobs; processes of another kind do not know it
        set_start_method("forkserver", force=True)
    context = get_context("forkserver")
    context.set_forkserver_preload(["src.training.run"])
    workers: dict[Connection, BaseProcess] = {}
    asked: list[int] = []

    def ask(number: int) -> None:
        asked.append(number)
        for worker in workers.values():
            if worker.is_alive():
                os.kill(worker.pid or 0, number)

    try:
        with _passing_on(ask):
            for rank in range(processes):
                receiver, sender = context.Pipe(duplex=False)
                ranks = {"RANK": str(rank), "LOCAL_RANK": str(rank)}
                arguments = (sender, environment | ranks, threads, config, folder, screen)
                worker: BaseProcess = context.Process(target=_work, args=arguments)
                worker.start()
                sender.close()  # this copy of it: the other end is to notice when the worker's is gone
                workers[receiver] = worker
            return _first_result(workers, asked)
    finally:
        until = time.monotonic() + _GRACE
        for worker in workers.values():
            worker.join(max(0.0, until - time.monotonic()))
            worker.kill()


def _first_result(workers: Mapping[Connection, BaseProcess], asked: list[int]) -> float:
    """Wait for every worker, and for none once one has failed."""
    from src.training.callbacks.interrupt import Interrupted

    results: dict[Any, float] = {}
    while len(results) < len(workers):
        for receiver in wait([receiver for receiver in workers if receiver not in results]):
            assert isinstance(receiver, Connection)
            try:
                outcome = receiver.recv()
            except EOFError:
                workers[receiver].join()
                outcome = Interrupted(asked[0]) if asked else RuntimeError("a process ended without a word")
            if isinstance(outcome, BaseException):
                if not asked:
                    _check_alive(list(workers.values()))  # that another one was killed explains all else
                raise outcome
            results[receiver] = outcome
    return results[next(iter(workers))]


def _check_alive(workers: Sequence[BaseProcess]) -> None:
    """Raise a RuntimeError that names a process which was killed. The others may miss it before it is quite gone."""
    until = time.monotonic() + 1
    while time.monotonic() < until and {worker.exitcode for worker in workers} <= {None, 0}:
        time.sleep(0.02)
    for rank, worker in enumerate(workers):
        if (code := worker.exitcode or 0) < 0:
            why = ", as the system does when memory runs out" if code == -signal.SIGKILL else ""
            raise RuntimeError(f"process {rank} of {len(workers)} was killed by {signal.Signals(-code).name}{why}")


@contextmanager
def _passing_on(ask: Callable[[int], None]) -> Iterator[None]:
    """Call ``ask`` with the signals that ask a run to stop."""
    from src.training.callbacks.interrupt import SIGNALS

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    former = {number: signal.getsignal(number) for number in SIGNALS}

    def handle(number: int, frame: FrameType | None) -> None:
        ask(number)

    for number in former:
        signal.signal(number, handle)
    try:
        yield
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)


def _work(
    sender: Connection,
    environment: dict[str, str],
    threads: int,
    config: dict[str, Any],
    folder: Path,
    screen: dict[str, Any],
) -> None:
    """Be one of the processes; send what ``fit_and_test`` returns or raises."""
    os.setsid()  # Ctrl-C reaches the one who started this, who passes it on
    threading.Thread(target=_end_with_parent, daemon=True).start()
    os.environ.update(environment)
    try:
        import rich
        import torch
        from hydra.core.utils import configure_log
        from lightning.pytorch.utilities import rank_zero_only

        from src.runs.folder import RunFolder
        from src.runs.screen import share_screen
        from src.training.run import fit_and_test

        rank_zero_only.rank = place()[0]  # type: ignore[attr-defined]  # which Lightning looked up when it was imported
        torch.set_num_threads(threads)
        if place()[0] == 0:
            rich.reconfigure(force_terminal=screen["terminal"], width=None if screen["terminal"] else 200)
            configure_log(OmegaConf.create(screen["logging"]))
            if screen["job"] is not None:
                share_screen(screen["job"])
        else:
            _be_silent()
        outcome: float | BaseException = fit_and_test(OmegaConf.create(config), RunFolder(folder))
    except BaseException as error:
        outcome = _portable(error)
        outcome.add_note(f"In process {place()[0]}:\n{traceback.format_exc()}")
    sender.send(outcome)


def _portable(error: BaseException) -> BaseException:
    """The error, or what it says, where another process could not make it anew."""
    from src.runs.errors import sentence

    try:
        deepcopy(error)  # which takes it apart and makes it anew, as sending it does
    except Exception:
        return RuntimeError(sentence(error))
    return error


def _end_with_parent() -> None:
    """A run whose first process was killed does not go on without it: the folder is no longer its own."""
    parent = parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _be_silent() -> None:
    """One process of those that train together speaks."""
    import logging
    import warnings

    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")
