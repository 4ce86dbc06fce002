"""Failures of the program, by its exit code (the codes follow sysexits.h)."""

from __future__ import annotations

from typing import Any, Dict, Optional, Sequence


class WattentionError(RuntimeError):
    """The program ended without success.

    ``exit_code`` is what it ended with, ``command`` what was run, and ``stderr`` everything that it said. ``result`` is
    the JSON object that it printed nevertheless, or None.
    """

    def __init__(
        self,
        exit_code: int,
        message: str,
        command: Sequence[str],
        stderr: str,
        result: Optional[Dict[str, Any]] = None,
    ) -> None:
        super().__init__(message)
        self.exit_code = exit_code
        self.command = list(command)
        self.stderr = stderr
        self.result = result


class SlowerThanBaselineError(WattentionError):
    """A benchmark is slower than its baseline (1)."""


class UsageError(WattentionError):
    """A setting is unknown, or its value is out of range (2)."""


class DataError(WattentionError):
    """A file holds something that it must not hold (65)."""


class MissingInputError(WattentionError):
    """A model, a dataset or a file is not there (66)."""


class DeviceUnavailableError(WattentionError):
    """The device that was asked for cannot be used (69)."""


class InternalError(WattentionError):
    """A defect of the program, which is worth a report (70)."""


class OutputError(WattentionError):
    """A file cannot be written (74)."""


class DoesNotFitError(WattentionError):
    """The work does not fit into memory; the message says what would (75)."""


class StoppedError(WattentionError):
    """A signal ended the program (130, 143, or a negative number: the signal that killed it)."""


BY_EXIT_CODE = {
    1: SlowerThanBaselineError,
    2: UsageError,
    65: DataError,
    66: MissingInputError,
    69: DeviceUnavailableError,
    70: InternalError,
    74: OutputError,
    75: DoesNotFitError,
    130: StoppedError,
    143: StoppedError,
}


def of(exit_code: int) -> type[WattentionError]:
    """The class of an exit code."""
    if exit_code < 0:
        return StoppedError
    return BY_EXIT_CODE.get(exit_code, WattentionError)
