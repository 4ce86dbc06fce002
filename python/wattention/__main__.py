"""`python -m wattention` is the program."""

import os
import subprocess
import sys

from .program import find


def main() -> int:
    command = [find(), *sys.argv[1:]]
    if os.name == "posix":
        os.execv(command[0], command)
    return subprocess.run(command).returncode


if __name__ == "__main__":
    sys.exit(main())
