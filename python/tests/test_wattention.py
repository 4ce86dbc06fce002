"""The module against the program that is installed with it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import wattention
from wattention.program import flags

SMALL = dict(max_source_length=128, max_target_length=16, max_train_samples=4, max_eval_samples=2, max_new_tokens=4)


def quiet(_: str) -> None:
    pass


def test_settings_are_flags():
    words = flags({"max_steps": 5, "sizes": [1, 2], "quick": True, "slow": False, "none": None, "path": Path("a")})
    assert words == ["--max-steps=5", "--sizes=1,2", "--quick", "--path=a"]
    assert flags({"learning_rate": -1.0}) == ["--learning-rate=-1.0"]


def test_a_model_is_trained_and_answers(tmp_path):
    lines = []
    run = tmp_path / "run"
    done = wattention.finetune(
        "tiny-led", "qmsum-slice", run, max_steps=2, per_device_train_batch_size=2, progress=lines.append, **SMALL
    )
    assert done["train"]["train_loss"] > 0
    assert json.loads((run / "config.json").read_text())
    assert lines, "progress is passed through"
    answers = wattention.generate(run / "model", ["The committee met.", "It agreed."], max_new_tokens=4, progress=quiet)
    assert [answer["id"] for answer in answers] == [0, 1]
    assert all(isinstance(answer["prediction"], str) for answer in answers)


def test_generation_reads_a_file(tmp_path):
    (tmp_path / "a.txt").write_text("The committee met on Monday.")
    answers = wattention.generate("tiny-led", tmp_path / "a.txt", max_new_tokens=4, progress=quiet)
    assert len(answers) == 1


def test_attention_is_timed():
    found = wattention.bench_attention(
        kind=["window"], lengths=[256], heads=2, head_size=16, seconds=0.01, warmup_seconds=0, progress=quiet
    )
    assert found["rows"] and all(row["median_s"] > 0 for row in found["rows"])


def test_a_study_is_planned():
    found = wattention.study(preset="paper", dry_run=True, progress=quiet)
    assert len(found["cells"]) == 48


@pytest.mark.parametrize(
    "settings, error, code",
    [
        ({"no_such_setting": 1}, wattention.UsageError, 2),
        ({"device": "cuda:99"}, wattention.DeviceUnavailableError, 69),
        ({"max_source_length": 4096, "memory": "1MiB"}, wattention.DoesNotFitError, 75),
    ],
)
def test_failures_are_exceptions_by_exit_code(tmp_path, settings, error, code):
    with pytest.raises(error) as caught:
        wattention.finetune("tiny-led", "qmsum-slice", tmp_path / "run", max_steps=1, progress=quiet, **settings)
    assert caught.value.exit_code == code
    assert str(caught.value) and not str(caught.value).startswith("error:")
    assert caught.value.command[1] == "finetune"


def test_a_missing_model_names_itself(tmp_path):
    with pytest.raises(wattention.MissingInputError, match="nowhere"):
        wattention.generate(tmp_path / "nowhere", ["x"], progress=quiet)


def test_the_module_is_the_program():
    done = subprocess.run([sys.executable, "-m", "wattention", "--version"], capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.startswith("wattention ")
    assert os.access(wattention.find(), os.X_OK)
