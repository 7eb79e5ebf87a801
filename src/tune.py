"""Search for the best settings, by Optuna: src.train --multirun with a tuner. Every trial is a run of the sweep.

python -m src.tune sweep=lr optim=sgd,adamw 'optim.lr=log(1e-3,1)' 'loss.label_smoothing=interval(0,0.2)' trials=40
python -m src.tune sweep=lr optim=sgd,adamw 'optim.lr=log(1e-3,1)' tuner=random pruner=asha trials=40 seeds=3
"""

import re
import sys
from functools import wraps

from src.sweeps.command_line import run
from src.train import main as train
from src.training.distributed import run_on_rank_0


@wraps(train)
def main() -> None:
    words = [re.sub("^seeds=", "best_seeds=", word) for word in sys.argv[1:]]
    searches = not any(re.match("-[^m]", word) for word in words)  # --help and --cfg do not
    flags = ["--multirun"] if searches and not {"-m", "--multirun"} & set(words) else []
    tuner = [] if any(word.startswith("tuner=") for word in words) else ["tuner=tpe"]
    text = ["hydra.help.template=${help:tune}"] if "--help" in words else []
    sys.argv[1:] = [*flags, *words, *tuner, *text]
    train()


if __name__ == "__main__":
    run_on_rank_0(lambda: run(main))
