"""Which tokens are global under each rule, by the character offsets that transformers' tokenizer gives.

What global_attention.json holds is said in goldens.py.
"""

import json
import re
from pathlib import Path

from transformers import PreTrainedTokenizerFast

TOKENIZER = Path(__file__).parent.parent / "weights" / "tiny-led" / "tokenizer.json"
SEPARATOR = "<doc-sep>"
MAX_LENGTH = 24
TEXTS = [
    "What did the team decide?\n\nThe project manager opened the meeting and the team talked about the budget.",
    "What did the team decide? \t\n \r\nThe project manager opened the meeting.",
    "Two lines\nof a question?\r\n\r\nThe answer stands here.\n\nAnd more of it.",
    "No blank line\nin this text, which has no question.",
    "\n\nWhy is it blue?\n\nIt is.",
    "A question that is longer than all that is kept of the whole text, so that every token is global?\n\nNo.",
    "One document.<doc-sep>Another one, longer. <doc-sep> A third.<doc-sep>",
    "<doc-sep>",
    "Caf\u00e9 \u2014 na\u00efve \U0001f600?\n\nYes.",
    "",
]
RULES = ["first", "none", "question", f"tokens:{SEPARATOR}", "every:5", "every:1"]


def positions(rule, text, ids, offsets, special, separator):
    """Global positions of the kept tokens; every rule but `none` takes the first one."""
    if rule == "none":
        return []
    chosen = {0}
    if rule == "question":
        # The last visible character before the first blank line.
        found = re.search(r"\S(?=[^\S\n]*\n[^\S\n]*\n)", text)
        end = found.end() if found else 0
        # A token of one space has an empty span: its offsets are trimmed.
        chosen |= {at for at, (_, stop) in enumerate(offsets) if not special[at] and stop <= end}
    elif rule.startswith("tokens:"):
        chosen |= {at for at, id in enumerate(ids) if id == separator}
    elif rule.startswith("every:"):
        chosen |= set(range(0, len(ids), int(rule.split(":")[1])))
    return sorted(chosen)


def write_global_attention(name, out):
    """Writes `out`/global_attention.json and returns a line about it."""
    tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(TOKENIZER))
    tokenizer.add_special_tokens({"additional_special_tokens": [SEPARATOR]})
    separator = tokenizer.convert_tokens_to_ids(SEPARATOR)
    cases = []
    for text in TEXTS:
        extra = {"return_offsets_mapping": True, "return_special_tokens_mask": True}
        encoded = tokenizer(text, truncation=True, max_length=MAX_LENGTH, **extra)
        ids, offsets, special = (encoded[key] for key in ["input_ids", "offset_mapping", "special_tokens_mask"])
        whole = len(tokenizer(text)["input_ids"])
        by_rule = {rule: positions(rule, text, ids, offsets, special, separator) for rule in RULES}
        cases.append({"text": text, "ids": ids, "tokens": whole, "global": by_rule})
    path = Path(out) / f"{name}.json"
    content = {"max_length": MAX_LENGTH, "separator": separator, "cases": cases}
    path.write_text(json.dumps(content, indent=1) + "\n", "utf-8")
    return f"{name}: {path.stat().st_size // 1000} kB, {len(cases)} texts under {len(RULES)} rules"
