"""The sweeper of multiruns. Hydra finds sweepers in this package only, and imports it at each start."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf


class JobsSweeper(Sweeper):
    """Launch the batches of jobs of ``src.sweeps.sequential.batches``, one after the other; with a tuner, those that
    ``src.sweeps.search`` leaves to do.

    Args:
        params: overrides that sweep, by key, as in Hydra's own sweeper; the command's come after them.
    """

    def __init__(self, params: dict[str, str] | None = None) -> None:
        self.params = params

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self.hydra_context, self.task_function, self.config = hydra_context, task_function, config
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> list[Sequence[JobReturn]]:
        from src.sweeps.search import search
        from src.sweeps.sequential import batches

        assert self.config is not None and self.launcher is not None and self.hydra_context is not None
        if self.config.plan:
            from src.sweeps.plan import plan

            plan(self.hydra_context, self.task_function, self.config, self.launcher)
            return []
        OmegaConf.save(self.config, Path(self.config.hydra.sweep.dir) / "multirun.yaml")
        done: list[Any] = []
        tuned = self.config.get("tuner")
        chosen = [search(self.hydra_context, self.task_function, self.config)] if tuned else batches(self.config)
        for batch in filter(None, chosen):
            done.append(self.launcher.launch(batch, initial_job_idx=sum(map(len, done))))
            for job in done[-1]:
                _ = job.return_value  # raises the error of a job that raised one
        return done
