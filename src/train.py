"""Train one configuration, test it, record it; with --multirun, every combination of the choices given.

python -m src.train model=resnet10 aug=trivialaugment
python -m src.train --multirun optim=sgd,adam,adamw seed=1,2,3 sweep=optimizers
python -m src.train resume=logs/train/runs/<run>
"""

import math
from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from src.runs.hydra_versions import MAIN
from src.sweeps.command_line import run
from src.training.distributed import distribute, run_on_rank_0

# torch and lightning are imported where they are used, so that --help and --cfg answer at once.


@hydra.main(config_name="train", **MAIN)
def main(cfg: DictConfig) -> float:
    from src.runs.errors import stop
    from src.runs.files import check_stays_within, relative
    from src.runs.folder import RunFolder, RunInUse
    from src.sweeps.relaunch import launch_record, record_refusal, resume_or_skip
    from src.training.job import run_job

    hydra_cfg = HydraConfig.get()
    multirun = hydra_cfg.mode == RunMode.MULTIRUN
    if cfg.plan and not multirun:
        stop(ValueError("plan=true plans a multirun: add --multirun."), debug=cfg.debug)
    if cfg.plan:
        from src.training.probe import probe

        return probe(cfg, RunFolder(hydra_cfg.runtime.output_dir))  # type: ignore[return-value]
    folder = RunFolder(relative(Path(cfg.resume or hydra_cfg.runtime.output_dir)))
    # In distributed training only rank 0 gets here; it owns the folder.
    try:
        if cfg.resume is not None:
            folder.results()  # raises if there is no run
            check_stays_within(folder.path)
        with folder.locked():
            if cfg.resume is not None:
                from src.training.resume import resumed_config

                cfg = resumed_config(cfg, hydra_cfg.overrides.task)
                folder.start_record(**folder.results())
            elif not multirun:
                folder.create(**launch_record(cfg))
            elif (done := resume_or_skip(folder, cfg)) is not None:
                return done
            from src.runs.checkpoints import last_good_checkpoint

            last_good_checkpoint(folder)  # moves it to last.ckpt
            return run_job(lambda: distribute(cfg, folder), folder, debug=cfg.debug)
    except Exception as error:
        if not multirun:
            stop(error, debug=cfg.debug)
        if isinstance(error, RunInUse):
            print(error)
        else:
            record_refusal(folder, error, debug=cfg.debug)
        return math.nan


if __name__ == "__main__":
    run_on_rank_0(lambda: run(main))  # of the processes that torchrun or srun started
