"""Show where a trained network looks: Grad-CAM overlays on images.

python -m src.explain ckpt=logs/train/runs/<run> images=photos/
"""

import hydra
from omegaconf import DictConfig

from src.runs.errors import errors_as_sentence
from src.runs.hydra_versions import MAIN
from src.sweeps.command_line import run


@hydra.main(config_name="explain", **MAIN)
def main(cfg: DictConfig) -> None:
    from src.inference.explain import explain_images

    with errors_as_sentence(debug=cfg.debug):
        unreadable = explain_images(cfg)
    if unreadable:
        raise SystemExit(1)


if __name__ == "__main__":
    run(main)
