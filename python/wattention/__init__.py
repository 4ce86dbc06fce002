"""wattention from Python: fine-tune and run LED and BigBird-Pegasus, and know what every phase costs.

Each function runs the `wattention` program of this package and returns its results as a dict. Settings are keyword
arguments under the names of the program's flags, with underscores: ``max_source_length=4096``. `wattention COMMAND
--help` describes them.

>>> import wattention
>>> run = wattention.finetune("tiny-led", "qmsum-slice", "runs/led", max_steps=4)     # doctest: +SKIP
>>> wattention.generate("runs/led/model", ["The committee met on Monday."])                 # doctest: +SKIP
"""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence, Union

from .errors import (
    DataError,
    DeviceUnavailableError,
    DoesNotFitError,
    InternalError,
    MissingInputError,
    OutputError,
    SlowerThanBaselineError,
    StoppedError,
    UsageError,
    WattentionError,
)
from .program import Progress, Setting, find, flags, run

__all__ = [
    "DataError",
    "DeviceUnavailableError",
    "DoesNotFitError",
    "InternalError",
    "MissingInputError",
    "OutputError",
    "SlowerThanBaselineError",
    "StoppedError",
    "UsageError",
    "WattentionError",
    "bench_attention",
    "find",
    "finetune",
    "generate",
    "run",
    "study",
]

Path_ = Union[str, "os.PathLike[str]"]


def study(
    config: Optional[Path_] = None,
    output_dir: Path_ = "runs/study",
    *,
    progress: Optional[Progress] = None,
    **settings: Setting,
) -> Dict[str, Any]:
    """Runs a study and returns its results: ``cells`` with their scores, times and joules, and ``report``, its page.

    Without ``config``, a TOML file, it is the quick preset; ``preset="paper", dry_run=True`` plans that of the paper.
    A study that was stopped resumes with the same call.
    """
    return run(["study", *flags({"config": config, "output_dir": output_dir, **settings})], progress)


def finetune(
    model: Path_,
    dataset: Path_,
    output_dir: Path_,
    *,
    progress: Optional[Progress] = None,
    **settings: Setting,
) -> Dict[str, Any]:
    """Fine-tunes ``model`` on ``dataset`` into the run directory ``output_dir``, whose folder ``model`` has the result.

    Returns what the run found: ``train`` with its losses and times, the scores, memory and energy.
    """
    named: Dict[str, Setting] = {"model": model, "dataset": dataset, "output_dir": output_dir}
    return run(["finetune", *flags({**named, **settings})], progress)


def generate(
    model: Path_,
    documents: Union[Path_, Sequence[str]],
    *,
    progress: Optional[Progress] = None,
    **settings: Setting,
) -> List[Dict[str, Any]]:
    """Summaries or answers for ``documents``: texts, or a .jsonl or .txt file of them.

    Returns a dict for each answer, with ``id``, the number of the text unless a file says otherwise, and
    ``prediction``.
    """
    with tempfile.TemporaryDirectory(prefix="wattention-") as folder:
        if isinstance(documents, (str, os.PathLike)):
            source = Path(documents)
        else:
            source = Path(folder) / "documents.jsonl"
            with source.open("w", encoding="utf-8") as file:
                for number, text in enumerate(documents):
                    file.write(json.dumps({"id": number, "input": text}) + "\n")
        answers = Path(folder) / "answers.jsonl"
        run(["generate", *flags({"model": model, "input": source, "output": answers, **settings})], progress)
        with answers.open(encoding="utf-8") as file:
            return [json.loads(line) for line in file]


def bench_attention(*, progress: Optional[Progress] = None, **settings: Setting) -> Dict[str, Any]:
    """Throughput of attention with its spread: ``bench_attention(lengths=[1024, 4096], kind=["window"])``."""
    return run(["bench", "attention", *flags(settings)], progress)
