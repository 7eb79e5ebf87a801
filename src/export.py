"""Give a trained network away: in a format others read, verified, with a model card beside it.

python -m src.export ckpt=logs/train/runs/<run> format=onnx
"""

import hydra
from omegaconf import DictConfig

from src.runs.errors import errors_as_sentence
from src.runs.hydra_versions import MAIN
from src.sweeps.command_line import run


@hydra.main(config_name="export", **MAIN)
def main(cfg: DictConfig) -> None:
    from src.inference.export import export_with_card

    with errors_as_sentence(debug=cfg.debug):
        export_with_card(cfg)


if __name__ == "__main__":
    run(main)
