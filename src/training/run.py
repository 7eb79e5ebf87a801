"""What one run does, from its configuration to its results."""

import logging

import lightning as L
from lightning.pytorch.utilities import rank_zero_only
from omegaconf import DictConfig

from src.runs.checkpoints import load_checkpoint
from src.runs.folder import RunFolder, score
from src.runs.outcomes import save_outcomes
from src.runs.trust import check_targets
from src.training import record as summary
from src.training.build import build_classifier, build_data, build_run_trainer, quiet_lightning, seed_of
from src.training.loggers import logged

log = logging.getLogger(__name__)


@quiet_lightning()
def fit_and_test(cfg: DictConfig, folder: RunFolder) -> float:
    """Fit, test with the best checkpoint, and write results.json and test_outcomes.npz.

    An interrupted run is resumed from its last checkpoint, if there is one. In distributed training
    (``src.training.distributed``) every process calls this, and only rank 0 writes.

    Returns:
        The score that a sweep optimises, by default accuracy, 0 to 1: on the validation set if there is one, else on
        the test set.
    """
    record = rank_zero_only(folder.update)
    resumed = folder.last if folder.last.exists() else None
    former = folder.results() if resumed else {}
    seed, before = seed_of(cfg, "init"), summary.before(cfg, folder, former)
    record(status="running", error=None, **before)
    check_targets(cfg)
    data = build_data(cfg)
    images = summary.of_data(data, before["settings"])
    summary.check_same_data(former, images)
    record(**images)
    log.info(
        "%d training, %d validation and %d test images of %d x %d pixels in %d classes",
        *(*images["images"].values(), data.image_size, data.image_size, len(data.classes)),
    )
    L.seed_everything(seed, workers=True, verbose=False)
    classifier = build_classifier(cfg, data, resumed=resumed is not None)
    trainer, history = build_run_trainer(cfg, folder, validates=len(data.val) > 0)
    record(**summary.of_network(classifier.network, len(data.classes), data.image_size, data.channels))

    rank_zero_only(summary.announce)(folder, trainer.strategy.root_device, trainer.precision)
    with logged(trainer.loggers, folder):
        trainer.fit(classifier, datamodule=data, ckpt_path=resumed, weights_only=True)
        results = summary.of_training(trainer, history, cfg.get("score", "val/accuracy"))
        if cfg.get("test", True):
            classifier.tested = load_checkpoint(folder.best).weights
            trainer.test(classifier, datamodule=data, verbose=False)
            results["metrics"] |= {name: float(value) for name, value in trainer.callback_metrics.items()}
            assert classifier.outcomes is not None
            rank_zero_only(save_outcomes)(classifier.outcomes, folder.outcomes_file)
            results["test_accuracy_by_class"] = classifier.outcomes.accuracy_by_class(data.classes)
    record(**results)
    rank_zero_only(summary.show)(folder)
    return score(results | {"config": before["config"]})
