"""Run cases of the corpus in this process, under an audit hook: python -m tests.attacks.audited RUN FOLDER NAME...

Writes a line of JSON for each case into FOLDER/outcomes: what the command printed, and what it did that it must not do.
"""

import faulthandler
import importlib
import json
import os
import pickle
import shutil
import socket
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch

from tests.attacks.corpus import CASES, COMMANDS, prepare
from tests.conftest import launch

SECONDS = 120  # for one case, on a busy machine
HARMLESS_PROGRAMS = {"git", "uname"}  # provenance and platform.processor() ask them
_CHANGES = {"os.mkdir", "os.rmdir", "os.remove", "os.rename", "os.link", "os.symlink", "os.truncate", "os.chmod"}
_PROGRAMS = {"os.system", "os.exec", "os.posix_spawn", "os.spawn", "os.fork", "os.forkpty", "os.startfile"}
_SOCKETS = {"socket.connect", "socket.bind", "socket.getaddrinfo", "socket.sendto"}
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND

violations: list[str] = []
allowed: list[Path] | None = None  # where files may be written; None while no command runs


def audit(event: str, arguments: tuple[Any, ...]) -> None:
    if allowed is None:
        return
    if event == "open":
        path, mode, flags = arguments
        if not isinstance(path, int) and (flags & _WRITING or set(mode or "") & set("wax+")):
            _check_place(event, Path(os.path.realpath(os.fsdecode(path))))
    elif event in _CHANGES:
        relative_to = (
            arguments[-1] if isinstance(arguments[-1], int) and event != "os.truncate" else -1
        )  # an open folder
        folder = Path(f"/proc/self/fd/{relative_to}").readlink() if relative_to >= 0 else Path()
        for path in arguments[: 2 if event in ("os.rename", "os.link") else 1]:
            if isinstance(path, str | bytes | os.PathLike):
                path = folder / os.fsdecode(path)
                _check_place(event, Path(os.path.realpath(path.parent)) / path.name)
    elif event == "subprocess.Popen":
        program = arguments[0] or arguments[1][0]
        if Path(os.fsdecode(program)).name not in HARMLESS_PROGRAMS:
            violations.append(f"{event} {arguments[:2]}")
    elif event in _PROGRAMS | _SOCKETS or event == "pickle.find_class":
        violations.append(f"{event} {arguments!r:.200}")


def _check_place(event: str, path: Path) -> None:
    if path == Path(os.devnull) or (event == "os.mkdir" and path.is_dir()):
        return
    try:
        status = path.lstat()
        shared = stat.S_ISREG(status.st_mode) and status.st_nlink > 1
    except OSError:
        shared = False
    parents = [path, *path.parents]
    # A folder on the way to the output may be made.
    if (shared and event == "open") or not any(place in parents or path in place.parents for place in allowed or ()):
        violations.append(f"{event} {path}")


def snapshot(folder: Path) -> dict[str, bytes]:
    return {str(file): file.read_bytes() if file.is_file() else b"" for file in folder.rglob("*")}


def check_the_hook(home: Path) -> None:
    """That it sees what it is for."""
    global allowed
    (home / "file").touch()
    (home / "inside").mkdir()
    (home / "inside" / "link").symlink_to(home / "file")
    crimes = {
        "a file": lambda: (home / "outside").touch(),
        "a link": lambda: (home / "inside" / "link").write_text(""),
        "a folder": lambda: (home / "folder").mkdir(),
        "a name": lambda: (home / "outside").rename(home / "inside" / "outside"),
        "a program": lambda: subprocess.run(["true"]),
        "a socket": lambda: socket.socket().bind(("127.0.0.1", 0)),
        "a pickle": lambda: pickle.loads(pickle.dumps(Path.touch)),
    }
    for crime, commit in crimes.items():
        violations.clear()
        allowed = [home / "inside"]
        commit()
        allowed = None
        assert len(violations) == 1, f"{crime}: {violations}"


def main(finished: Path, home: Path, *names: str) -> None:
    global allowed
    torch.set_num_threads(1)
    sys.dont_write_bytecode = True
    scratch = home / "scratch"
    scratch.mkdir()
    own = ("TMPDIR", "MPLCONFIGDIR", "TORCHINDUCTOR_CACHE_DIR")  # where libraries keep what is theirs
    os.environ |= dict.fromkeys(own, str(scratch)) | {"GIT_OPTIONAL_LOCKS": "0"}
    import matplotlib.font_manager  # noqa: F401  (asks a program for the system's fonts, once)

    sys.addaudithook(audit)
    check_the_hook(home)
    with (home / "outcomes").open("w") as outcomes:
        for number, name in enumerate(names):
            word, attack = CASES[name]
            faulthandler.dump_traceback_later(SECONDS, exit=True)
            case, command = home / str(number), COMMANDS[word]
            os.environ["XDG_CACHE_HOME"] = str(case / "cache")
            prepare(case, finished)
            os.chdir(case)
            attack.prepare(case)
            before = snapshot(case / "victim")
            entry = importlib.import_module(f"src.{command.module}").main
            violations.clear()
            allowed = [scratch, *(case / place for place in command.output)]
            try:
                run = launch(entry, case, *command.arguments)
                code, text = run.code, run.out + run.err
            except BaseException as error:
                code, text = -1, f"Traceback: {error!r}"
            allowed = None
            changed = [] if snapshot(case / "victim") == before else ["the victim was changed"]
            outcome = {"name": name, "code": code, "text": text, "violations": [*violations, *changed]}
            print(json.dumps(outcome), file=outcomes, flush=True)
            os.chdir(home)
            shutil.rmtree(case)
            faulthandler.cancel_dump_traceback_later()


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), *sys.argv[3:])
