"""Finds the `wattention` program and runs it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import sysconfig
import threading
from pathlib import Path
from typing import IO, Any, Callable, Dict, Iterator, List, Optional, Sequence, Union

from . import errors

#: A setting as a flag takes it. None leaves it out; True is a bare flag; a list is joined by commas.
Setting = Union[None, bool, int, float, str, "os.PathLike[str]", Sequence[Union[int, float, str]]]

#: Takes each line of progress as the program prints it.
Progress = Callable[[str], None]


def find() -> str:
    """The path of the program: ``WATTENTION_PROGRAM``, the one installed with this module, or one on PATH."""
    named = os.environ.get("WATTENTION_PROGRAM")
    if named:
        return named
    name = "wattention" + (sysconfig.get_config_var("EXE") or "")
    for place in _places():
        path = place / name
        if path.is_file() and os.access(path, os.X_OK):
            return str(path)
    found = shutil.which("wattention")
    if found is None:
        raise FileNotFoundError(
            "the wattention program is neither beside this module nor on PATH; install the wheel again, "
            "or name the program in WATTENTION_PROGRAM"
        )
    return found


def _places() -> Iterator[Path]:
    yield Path(sysconfig.get_path("scripts"))
    user = {"posix": "posix_user", "nt": "nt_user"}.get(os.name)
    if user is not None:
        yield Path(sysconfig.get_path("scripts", user))
    # `pip install --target DIR` puts programs into DIR/bin.
    yield Path(__file__).resolve().parent.parent / "bin"


def flags(settings: Dict[str, Setting]) -> List[str]:
    """Settings as words of a command line: ``max_steps=5`` is ``--max-steps=5``."""
    words: List[str] = []
    for name, value in settings.items():
        flag = "--" + name.replace("_", "-")
        if value is None or value is False:
            continue
        if value is True:
            words.append(flag)
        elif isinstance(value, (list, tuple)):
            words.append(f"{flag}=" + ",".join(str(item) for item in value))
        else:
            # One word, so that a value that begins with a dash is no flag.
            words.append(f"{flag}={os.fspath(value) if isinstance(value, os.PathLike) else value}")
    return words


def run(words: Sequence[str], progress: Optional[Progress] = None) -> Dict[str, Any]:
    """Runs the program with ``--json`` and returns the object that it prints.

    Lines of progress go to ``progress``, or to ``sys.stderr``, which notebooks show. An interrupt is passed on, so that
    a run saves its checkpoint before it ends. Raises a :class:`WattentionError` by the exit code.
    """
    command = [find(), *words, "--json"]
    child = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
        errors="replace",
    )
    said: List[str] = []
    # The result is one line, printed at the end, but it may be longer than a pipe holds.
    assert child.stdout is not None and child.stderr is not None
    reader = _Reader(child.stdout)
    reader.start()
    interrupted = False
    lines = iter(child.stderr)
    while True:
        try:
            line = next(lines, None)
            if line is None:
                break
            said.append(line)
            (progress or _to_stderr)(line.rstrip("\n"))
        except KeyboardInterrupt:
            interrupted = True
            child.send_signal(signal.SIGINT)
        except BaseException:
            child.kill()
            raise
    exit_code = child.wait()
    reader.join()
    if interrupted:
        raise KeyboardInterrupt
    result = _object(reader.text)
    if exit_code != 0:
        stderr = "".join(said)
        raise errors.of(exit_code)(exit_code, _message(said, exit_code), command, stderr, result)
    if result is None:
        raise errors.InternalError(70, "the program printed no JSON object", command, "".join(said))
    return result


class _Reader(threading.Thread):
    """Reads a stream to its end beside the other one."""

    def __init__(self, stream: IO[str]) -> None:
        super().__init__(daemon=True)
        self.stream = stream
        self.text = ""

    def run(self) -> None:
        self.text = self.stream.read()


def _to_stderr(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _object(text: str) -> Optional[Dict[str, Any]]:
    try:
        value = json.loads(text)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


def _message(said: Sequence[str], exit_code: int) -> str:
    """The error that the program printed, with the lines below it, or its last line."""
    for at, line in enumerate(said):
        if line.startswith("error: "):
            return "".join(said[at:])[len("error: ") :].strip()
    last = [line.strip() for line in said if line.strip()]
    return last[-1] if last else f"the program ended with exit code {exit_code}"
