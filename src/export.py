"""Give a trained network away: in a format others read, verified, with a model card beside it.

python -m src.export ckpt=logs/train/runs/<run> format=onnx
"""

from pathlib import Path

import hydra
from omegaconf import DictConfig

import src.sweeps.naming  # noqa: F401  (the resolver that conf/export.yaml uses)
from src.sweeps.command_line import plain_paths


@plain_paths("ckpt", "out", "eval")
@hydra.main(version_base="1.3", config_path=str(Path(__file__).parents[1] / "conf"), config_name="export")
def main(cfg: DictConfig) -> None:
    from src.inference.export import export_with_card
    from src.runs.errors import stop

    try:
        export_with_card(cfg)
    except Exception as error:
        stop(error, debug=cfg.debug)


if __name__ == "__main__":
    main()
