"""Test a checkpoint again, from the checkpoint alone: it carries its configuration.

python -m src.eval ckpt=logs/train/runs/<run>/checkpoints/best.ckpt
"""

from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

import src.runs.names  # noqa: F401  (the resolvers that conf/eval.yaml uses)
from src.runs.command_line import plain_paths


@plain_paths("ckpt")
@hydra.main(version_base="1.3", config_path=str(Path(__file__).parents[1] / "conf"), config_name="eval")
def main(cfg: DictConfig) -> float:
    from rich.console import Console
    from rich.markup import escape

    from src.runs.folder import write_json
    from src.runs.job import stop

    try:
        metrics = evaluate(cfg)
    except Exception as error:
        stop(error, debug=cfg.debug)
    file = Path(HydraConfig.get().runtime.output_dir) / "eval.json"
    write_json(file, {"ckpt": str(cfg.ckpt), "metrics": metrics})
    console = Console(highlight=False, soft_wrap=True)
    console.print(f"test accuracy [bold]{metrics['test/accuracy']:.2%}[/], loss {metrics['test/loss']:.4f}")
    console.print(escape(str(file)))
    return metrics["test/accuracy"]


def evaluate(cfg: DictConfig) -> dict[str, float]:
    """Test metrics of the checkpoint ``cfg.ckpt``, on its own test images or on those of ``cfg.data``.

    Raises:
        FileNotFoundError, ValueError: no checkpoint, or one that cannot be used with these data.
    """
    from src.build import build_classifier, build_data, build_trainer, trusted
    from src.runs.checkpoint import load_checkpoint

    if cfg.ckpt is None:
        raise ValueError("Name a checkpoint: python -m src.eval ckpt=<run folder>/checkpoints/best.ckpt")
    checkpoint = load_checkpoint(Path(cfg.ckpt))
    carried = checkpoint["hyper_parameters"]
    trained = trusted(carried["config"])
    trained.trainer = OmegaConf.merge(cfg.trainer, {"precision": cfg.trainer.precision or trained.trainer.precision})
    if cfg.get("data") is not None:
        # Other images, but normalised as those it learned from; how one would train on them is of no account.
        kept = {"mean": trained.data.mean, "std": trained.data.std, "val_size": 0, "batch_size": 1}
        trained.data = OmegaConf.merge(cfg.data, kept)
    data = build_data(trained)
    if list(data.classes) != carried["classes"]:
        raise ValueError(
            f"The checkpoint was trained on the classes {', '.join(carried['classes'])}, but the data have "
            f"{', '.join(data.classes)}; evaluate on data with the same classes."
        )
    classifier = build_classifier(trained, data)
    try:
        classifier.load_state_dict(checkpoint["state_dict"])
    except RuntimeError as error:
        raise ValueError(
            f"The checkpoint's weights do not fit {trained.model._target_} for images of {data.image_size} x "
            f"{data.image_size} pixels; use images of the size it was trained on. ({error})"
        ) from None
    trainer = build_trainer(trained, logger=False, enable_checkpointing=False)
    trainer.test(classifier, datamodule=data, verbose=False)
    return {name: value.item() for name, value in trainer.callback_metrics.items()}


if __name__ == "__main__":
    main()
