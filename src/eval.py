"""Test a checkpoint again, from the checkpoint alone: it carries its configuration.

python -m src.eval ckpt=logs/train/runs/<run>
python -m src.eval ckpt=logs/train/runs/<run> tta=[none,flip,flip_shift] corruptions=true
"""

from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

import src.sweeps.naming  # noqa: F401  (the resolvers that conf/eval.yaml uses)
from src.sweeps.command_line import plain_paths


@plain_paths("ckpt")
@hydra.main(version_base="1.3", config_path=str(Path(__file__).parents[1] / "conf"), config_name="eval")
def main(cfg: DictConfig) -> float:
    from src.inference.evaluate import evaluate, show
    from src.runs.errors import stop

    folder = Path(HydraConfig.get().runtime.output_dir)
    try:
        results = evaluate(cfg, folder)
    except Exception as error:
        stop(error, debug=cfg.debug)
    show(results)
    print(folder / "eval.json")
    return next(row["accuracy"] for row in results["tta"] if row["name"] == results["primary"])


if __name__ == "__main__":
    main()
