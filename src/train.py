"""Train one configuration, test it, record it; with --multirun, every combination of the choices given.

python -m src.train model=resnet10 aug=trivialaugment
python -m src.train --multirun optim=sgd,adam,adamw
"""

import math
from pathlib import Path
from typing import TYPE_CHECKING

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

import src.runs.sweep  # noqa: F401  (the resolvers and the callback that conf/train.yaml uses)
from src.distributed import distribute, led_by_rank_0
from src.runs.command_line import plain_paths

if TYPE_CHECKING:
    from src.runs.folder import RunFolder

# torch and lightning are imported where they are used, so that --help and --cfg answer at once.


@led_by_rank_0
@plain_paths("resume")
@hydra.main(version_base="1.3", config_path=str(Path(__file__).parents[1] / "conf"), config_name="train")
def main(cfg: DictConfig) -> float:
    from src.runs.folder import RunFolder, RunningElsewhere
    from src.runs.job import run_job, stop
    from src.runs.relaunch import refuse, take_up

    hydra_cfg = HydraConfig.get()
    multirun = hydra_cfg.mode == RunMode.MULTIRUN
    path = Path(cfg.resume or hydra_cfg.runtime.output_dir)
    folder = RunFolder(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)
    # Of processes that train one run together, only the first may come this far: the folder is its own.
    try:
        if cfg.resume is not None:
            folder.results()  # there is a run
        with folder.held():
            if cfg.resume is not None:
                from src.resume import resumed_config

                cfg = resumed_config(cfg, hydra_cfg.overrides.task)
                folder.begin(**folder.results())
            elif not multirun:
                folder.claim()
            elif (done := take_up(folder, cfg)) is not None:
                return done
            from src.runs.checkpoint import last_good_checkpoint

            last_good_checkpoint(folder)  # is last.ckpt from here on
            return run_job(lambda: distribute(cfg, folder), folder, debug=cfg.debug)
    except Exception as error:
        if not multirun:
            stop(error, debug=cfg.debug)
        if isinstance(error, RunningElsewhere):
            print(error)
        else:
            refuse(folder, error, debug=cfg.debug)
        return math.nan


def train(cfg: DictConfig, folder: "RunFolder") -> float:
    """Fit, test with the best checkpoint, and write results.json.

    A run that was interrupted goes on from its last checkpoint, if it came to write one. Of processes that train
    together (``src.distributed``) each calls this, and the first one writes.

    Returns:
        The accuracy, 0 to 1, by which a sweep may choose: on the validation set where there is one, else on the
        test set.
    """
    import lightning as L
    from lightning.pytorch.utilities import rank_zero_only
    from omegaconf import OmegaConf

    from src.build import build_classifier, build_data, build_run_trainer
    from src.runs import summary
    from src.runs.checkpoint import load_checkpoint
    from src.runs.relaunch import score

    record = rank_zero_only(folder.update)
    config = OmegaConf.to_container(cfg, resolve=True)
    record(status="running", error=None, config=config, **summary.before(cfg))
    data = build_data(cfg)
    L.seed_everything(cfg.seed, workers=True, verbose=False)
    classifier = build_classifier(cfg, data)
    trainer, history = build_run_trainer(cfg, folder, validates=len(data.val) > 0)
    record(**summary.of_data(data), **summary.of_network(classifier.network, data.image_size))

    resumed = folder.last if folder.last.exists() else None
    trainer.fit(classifier, datamodule=data, ckpt_path=resumed, weights_only=True)
    results = summary.of_training(trainer, history)
    load_checkpoint(folder.best)  # a damaged one gets a sentence
    trainer.test(classifier, datamodule=data, ckpt_path=folder.best, weights_only=True, verbose=False)
    results["metrics"] |= {name: value.item() for name, value in trainer.callback_metrics.items()}
    record(**results, test_accuracy_by_class=classifier.test_accuracy_by_class)
    rank_zero_only(summary.show)(folder)
    return score(results)


if __name__ == "__main__":
    main()
