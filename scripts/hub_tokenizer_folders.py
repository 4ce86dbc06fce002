"""Folders with a tokenizer as the hub has them, each a base, some files beside it, and what AutoTokenizer makes of it.

scripts/hub_tokenizers.py writes the ids of every text of TEXTS by every folder of FOLDERS into folders.json; a folder
stores only those that differ from the ids of the folder it is `like`.

    python scripts/hub_tokenizer_folders.py DIR

compares what AutoTokenizer makes of DIR/<name>, folders that wattention converted, with folders.json, and exits with 1
where they differ.
"""

import copy
import json
import shutil
import sys
import tempfile
from pathlib import Path

from transformers import AutoTokenizer

MASK = {"content": "<mask>", "lstrip": True, "rstrip": False, "normalized": False, "single_word": False}


def token(content, **flags):
    return {"content": content, "lstrip": False, "rstrip": False, "normalized": False, "single_word": False, **flags}


def listed(**tokens):
    """An added_tokens_decoder; keys are ids with a leading underscore."""
    return {key.removeprefix("_"): {"special": False, **value} for key, value in tokens.items()}


LED_LISTED = listed(
    _0=token("<s>", special=True), _1=token("<pad>", special=True), _2=token("</s>", special=True),
    _3=token("<unk>", special=True), _599={**MASK, "special": True}, _600=token("<doc-sep>", special=True),
)
FAST = {"tokenizer_class": "PreTrainedTokenizerFast"}
LED = {"model_type": "led", "vocab_size": 700}
BIG_BIRD = {"model_type": "bigbird_pegasus", "vocab_size": 700}
MBART = {"model_type": "mbart", "vocab_size": 700}

# name: (base, files beside it, changes of tokenizer.json as (path, value), length to cut at)
FOLDERS = {
    "led": ("led", {}),
    "led_doc_sep": ("led", {"added_tokens.json": {"<doc-sep>": 600}}),
    "led_doc_sep_special": (
        "led",
        {
            "added_tokens.json": {"<doc-sep>": 600},
            "special_tokens_map.json": {"mask_token": MASK, "additional_special_tokens": ["<doc-sep>"]},
        },
    ),
    "led_added_elsewhere": ("led", {"added_tokens.json": {"<n>": 650, "<doc-sep>": 640, " the": 3}}),
    "led_added_known": ("led", {"added_tokens.json": {"the": 12, "<turn>": 600}}),
    "led_listed": ("led", {"tokenizer_config.json": {"added_tokens_decoder": LED_LISTED}}),
    "led_listed_over_map": (
        "led",
        {
            "tokenizer_config.json": {"added_tokens_decoder": LED_LISTED},
            "special_tokens_map.json": {"mask_token": "<n>", "additional_special_tokens": ["<turn>"]},
            "added_tokens.json": {"<x>": 601},
        },
    ),
    "led_listed_flags": (
        "led",
        {
            "tokenizer_config.json": {
                "added_tokens_decoder": listed(
                    _610=token("<turn>", rstrip=True), _605=token("<doc-sep>", lstrip=True, rstrip=True),
                    _604=token("meeting", single_word=True, normalized=True), _0=token("<s>", special=True),
                )
            }
        },
    ),
    "led_map_strings": (
        "led",
        {
            "special_tokens_map.json": {
                "bos_token": "<s>", "mask_token": "<mask>", "sep_token": "</s>", "cls_token": "<s>",
                "additional_special_tokens": ["<doc-sep>", "<turn>"],
            }
        },
    ),
    "led_map_objects": (
        "led",
        {
            "special_tokens_map.json": {
                "mask_token": token("<mask>", rstrip=True), "unk_token": token("<unk>", lstrip=True),
                "eos_token": token("</s>", normalized=True), "sep_token": "</s>",
            }
        },
    ),
    "led_config_strings": ("led", {"tokenizer_config.json": {"additional_special_tokens": ["<turn>", "<doc-sep>", "<turn>"]}}),
    "led_config_extra": ("led", {"tokenizer_config.json": {"extra_special_tokens": ["<doc-sep>"]}}),
    "led_config_and_map": (
        "led",
        {
            "tokenizer_config.json": {"additional_special_tokens": ["<doc-sep>"]},
            "special_tokens_map.json": {"additional_special_tokens": ["<turn>"], "extra_special_tokens": ["<x>"]},
        },
    ),
    "led_extra_roles": ("led", {"tokenizer_config.json": {"extra_special_tokens": {"document_token": "<doc-sep>", "turn": "<turn>"}}}),
    "led_own_roles": ("led", {"tokenizer_config.json": {"turn_token": "<turn>", "doc_token": "<doc-sep>"}}),
    "led_own_roles_map": ("led", {"special_tokens_map.json": {"doc_token": token("<doc-sep>", lstrip=True)}}),
    "led_typed": (
        "led",
        {"tokenizer_config.json": {"mask_token": {"__type": "AddedToken", **MASK}, "n_token": {"__type": "AddedToken", **token("<n>", rstrip=True)}}},
    ),
    "led_frames": ("led", {"tokenizer_config.json": {"cls_token": "<pad>", "sep_token": "<unk>"}}),
    "led_new_frames": ("led", {"special_tokens_map.json": {"cls_token": "<start>", "sep_token": "<doc-sep>"}}),
    "led_no_mask": ("led", {"tokenizer_config.json": {"mask_token": None, "unk_token": None}}),
    "led_prefix": ("led", {"tokenizer_config.json": {"add_prefix_space": True}}),
    "led_prefix_listed": ("led", {"tokenizer_config.json": {"add_prefix_space": True, "added_tokens_decoder": LED_LISTED}}),
    "led_split": ("led", {"tokenizer_config.json": {"split_special_tokens": True}, "added_tokens.json": {"<turn>": 600}}),
    "led_harmless": (
        "led",
        {
            "tokenizer_config.json": {
                "do_lower_case": True, "legacy": False, "model_max_length": 16, "errors": "strict", "trim_offsets": False,
                "clean_up_tokenization_spaces": True, "padding_side": "left", "name_or_path": "allenai/led-base-16384",
                "add_bos_token": True, "add_eos_token": True, "use_fast": True,
            }
        },
    ),
    "led_left": ("led", {"tokenizer_config.json": {"truncation_side": "left"}}, [], 9),
    "led_cut": ("led", {}, [], 9),
    "led_class_in_config": ("led", {"config.json": {**LED, "tokenizer_class": "BartTokenizer"}}),
    "led_longformer": ("led", {"tokenizer_config.json": {"tokenizer_class": "LongformerTokenizerFast"}}),
    "led_no_config": ("led", {"config.json": None, "tokenizer_config.json": {"tokenizer_class": "RobertaTokenizer"}}),
    "led_bart": ("led", {"config.json": {"model_type": "bart"}, "tokenizer_config.json": {"tokenizer_class": "BartTokenizerFast"}}),
    "led_whole": ("led_whole", {}),
    "led_whole_doc_sep": ("led_whole", {"added_tokens.json": {"<doc-sep>": 600}}),
    "led_whole_listed": ("led_whole", {"tokenizer_config.json": {"tokenizer_class": "LEDTokenizer", "added_tokens_decoder": LED_LISTED}}),
    "led_whole_map": ("led_whole", {"special_tokens_map.json": {"mask_token": MASK, "additional_special_tokens": ["<doc-sep>"]}}),
    "led_whole_prefix": ("led_whole", {"tokenizer_config.json": {"add_prefix_space": True}}),
    "led_whole_stale_prefix": ("led_whole", {}, [("pre_tokenizer.add_prefix_space", True)]),
    "led_whole_fast_prefix": ("led_whole", {"tokenizer_config.json": FAST}, [("pre_tokenizer.add_prefix_space", True)]),
    "led_whole_fast_config_prefix": ("led_whole", {"tokenizer_config.json": {**FAST, "add_prefix_space": True}}),
    "led_whole_lower": ("led_whole", {}, [("normalizer", {"type": "Lowercase"})]),
    "led_whole_fast_lower": (
        "led_whole",
        {"tokenizer_config.json": {**FAST, "additional_special_tokens": ["<DOC>"]}, "added_tokens.json": {"<Turn>": 601}},
        [("normalizer", {"type": "Lowercase"})],
    ),
    "led_whole_fast": ("led_whole", {"tokenizer_config.json": {**FAST, "pad_token": "<n>", "add_bos_token": True}}),
    "led_whole_fast_frameless": ("led_whole", {"tokenizer_config.json": {**FAST, "bos_token": "<s>"}}, [("post_processor", None)]),
    "led_whole_frameless": ("led_whole", {}, [("post_processor", None)]),
    "led_whole_fast_flags": (
        "led_whole",
        {"tokenizer_config.json": {**FAST, "added_tokens_decoder": listed(_599=token("<mask>", rstrip=True), _600=token("<doc-sep>"))}},
    ),
    "led_whole_added": (
        "led_whole",
        {},
        [("added_tokens.5", {"id": 600, **token("<doc-sep>"), "special": False}), ("added_tokens.6", {"id": 601, **token("<n>", lstrip=True), "special": True})],
    ),
    "led_whole_added_over": (
        "led_whole",
        {"added_tokens.json": {"<turn>": 600, "<x>": 601}},
        [("added_tokens.5", {"id": 600, **token("<doc-sep>"), "special": False})],
    ),
    "led_whole_padding": (
        "led_whole",
        {"tokenizer_config.json": FAST},
        [("padding", {"strategy": "BatchLongest", "direction": "Right", "pad_to_multiple_of": None, "pad_id": 600, "pad_type_id": 0, "pad_token": "<n>"})],
    ),
    "led_whole_left": (
        "led_whole",
        {},
        [("truncation", {"direction": "Left", "max_length": 5, "strategy": "LongestFirst", "stride": 0})],
        9,
    ),
    "led_whole_unk": ("led_whole", {}, [("model.unk_token", "<unk>"), ("model.dropout", 0.5), ("model.fuse_unk", True)]),
    "led_whole_listed_less": (
        "led_whole",
        {"tokenizer_config.json": {"added_tokens_decoder": listed(_0=token("<s>", special=True), _600=token("<turn>", special=True))}},
        [("added_tokens.5", {"id": 600, **token("<doc-sep>"), "special": True}), ("added_tokens.6", {"id": 601, **token("<n>"), "special": False})],
    ),
    "led_nulls": (
        "led",
        {
            "tokenizer_config.json": {"additional_special_tokens": None, "extra_special_tokens": [], "pad_token": None},
            "special_tokens_map.json": {"mask_token": None, "additional_special_tokens": []},
        },
    ),
    "led_framing_objects": (
        "led",
        {"special_tokens_map.json": {"cls_token": token("<s>", lstrip=True), "sep_token": token("<doc-sep>", rstrip=True), "bos_token": "<s>"}},
    ),
    "led_unknown_class": ("led_whole", {"tokenizer_config.json": {"tokenizer_class": "SomebodysTokenizerFast"}}, [("normalizer", {"type": "Lowercase"})]),
    "led_config_class_generic": ("led_whole", {"config.json": {**LED, "tokenizer_class": "PreTrainedTokenizerFast"}}, [("normalizer", {"type": "Lowercase"})]),
    "led_old_merges": ("led_whole", {"added_tokens.json": {"<doc-sep>": 600}}, [("model.merges", ["\u0120 t", "\u0120t h", "\u0120 a"])]),
    "big_bird_pegasus_whole": ("big_bird_whole", {}),
    "big_bird_pegasus_whole_doc_sep": ("big_bird_whole", {"added_tokens.json": {"<doc-sep>": 500}}),
    "big_bird_pegasus_whole_listed": (
        "big_bird_whole",
        {"tokenizer_config.json": {"tokenizer_class": "PegasusTokenizer", "added_tokens_decoder": listed(_500=token("<doc-sep>", special=True), _501=token("meeting", normalized=True), _502=token("\ufb01", normalized=True))}},
    ),
    "big_bird_pegasus_whole_map": (
        "big_bird_whole",
        {"special_tokens_map.json": {"mask_token": token("[MASK]", lstrip=True), "additional_special_tokens": ["<n>", "<turn>"]}},
    ),
    "big_bird_class": ("big_bird_whole", {"config.json": {"model_type": "big_bird"}}),
    "big_bird_class_named": ("big_bird_whole", {"config.json": LED, "tokenizer_config.json": {"tokenizer_class": "BigBirdTokenizer", "add_prefix_space": False}}),
    "big_bird_class_pieces": ("bigbird_pegasus", {"config.json": {"model_type": "big_bird"}, "tokenizer_config.json": {}}),
    "pegasus_class": ("big_bird_whole", {"config.json": {"model_type": "pegasus"}, "tokenizer_config.json": {"offset": 0, "mask_token_sent": None}}),
    "pegasus_class_pieces": ("pegasus", {}),
    "pegasus_class_pieces_zero": (
        "bigbird_pegasus",
        {"config.json": {"model_type": "pegasus"}},
    ),
    "pegasus_class_named": ("pegasus", {"config.json": LED, "tokenizer_config.json": {"tokenizer_class": "PegasusTokenizerFast", "additional_special_tokens": ["<doc-sep>"]}}),
    "led_added_gap": (
        "led",
        {
            "added_tokens.json": {"<turn>": 605, "<doc-sep>": 600, "<x>": 602},
            "special_tokens_map.json": {"additional_special_tokens": ["<turn>", "<doc-sep>"]},
        },
    ),
    "led_extra_typed": (
        "led",
        {"tokenizer_config.json": {"extra_special_tokens": {"doc": {"__type": "AddedToken", **token("<doc-sep>", lstrip=True, rstrip=True)}}}},
    ),
    "led_pad_is_new": ("led", {"tokenizer_config.json": {"pad_token": "<n>", "bos_token": "<start>", "eos_token": "<turn>"}}),
    "led_whole_saved_by_5": (
        "led_whole",
        {
            "tokenizer_config.json": {
                "add_prefix_space": False, "backend": "tokenizers", "bos_token": "<s>", "cls_token": "<s>", "eos_token": "</s>",
                "errors": "replace", "extra_special_tokens": ["<doc-sep>"], "is_local": True, "mask_token": "<mask>",
                "model_max_length": 16384, "pad_token": "<pad>", "sep_token": "</s>", "tokenizer_class": "LEDTokenizer",
                "trim_offsets": True, "unk_token": "<unk>",
            }
        },
        [("added_tokens.5", {"id": 600, **token("<doc-sep>"), "special": True})],
    ),
    "led_whole_backend": (
        "led_whole",
        {"tokenizer_config.json": {"tokenizer_class": "TokenizersBackend", "backend": "tokenizers"}},
        [("normalizer", {"type": "Lowercase"})],
    ),
    "led_whole_two_ids": (
        "led_whole",
        {"added_tokens.json": {"<doc-sep>": 602}},
        [("added_tokens.5", {"id": 600, **token("<doc-sep>"), "special": True})],
    ),
    "pegasus_added": ("pegasus", {"added_tokens.json": {"<doc-sep>": 690}, "special_tokens_map.json": {"additional_special_tokens": ["<doc-sep>", "<turn>"]}}),
    "mbart_generic": ("big_bird_whole", {"config.json": MBART, "tokenizer_config.json": FAST}),
}

# Which base is a folder of which files; the first has tokenizer.json.
BASES = {
    "led": (["vocab.json", "merges.txt"], {"config.json": LED}),
    "led_whole": (["tokenizer.json"], {"config.json": LED}),
    "bigbird_pegasus": (["spiece.model", "tokenizer_config.json"], {"config.json": BIG_BIRD}),
    "big_bird_whole": (["tokenizer.json"], {"config.json": BIG_BIRD}),
    "pegasus": (["spiece.model", "tokenizer_config.json"], {"config.json": {"model_type": "pegasus"}}),
}

TEXTS = [
    "", " ", "a", "<doc-sep>", "a<doc-sep>b", "a <doc-sep> b", "a  <doc-sep>  b", "<doc-sep><doc-sep>", "<doc-sep", "<DOC-SEP>",
    "The meeting<doc-sep>Project Manager: Okay.<doc-sep>", "<turn>", "x <turn> y", "x<turn>y", "x  <turn>  y", "<turn><doc-sep><n><x>",
    "<Turn> <DOC> <doc>", "<n>", "a <n> b", "a<n>\nb", "<x>", "one <x> two", "<mask>", "a <mask> b", "a  <mask>  b", "a<mask>b", "<mask> <mask>",
    "<s>", "</s>", "a </s> b", "a</s>b", "<pad>", "<unk>", "a <unk> b", "a  <unk>  b", "<start>", "<start> a", "[CLS] a [SEP]", "a [MASK] b",
    "<mask_1>", "<mask_2> b", "<unk_2>", "a <unk_102> b", "the", "The", "the the", "meeting", "meetings", "a meeting.", "MEETING Meeting", "remote meeting",
    "Hello World", " Hello", "hello world ", "  two  spaces  ", "one\ntwo\n\nthree", "tab\tand\u00a0no-break", "caf\u00e9 cafe\u0301", "\ufb01nal \ufb01", "\U0001f600\U0001f44d",
    "\u4f60\u597d", "\u2581a \u2581", "don't I'm", "3.14159 1,000", "Project Manager: Okay , so um .", "word " * 12, "x" * 40, "\x00 nul", "\ufeffbom", "a" + " " * 9 + "b",
]


def change(tokenizer, path, value):
    *parents, last = path.split(".")
    for key in parents:
        tokenizer = tokenizer[int(key) if isinstance(tokenizer, list) else key]
    if isinstance(tokenizer, list):
        tokenizer.insert(int(last), value)
    else:
        tokenizer[last] = value


def write(out, base, files, changes, folder):
    """The folder, with the files of the base that `files` does not replace."""
    names, defaults = BASES[base]
    for name in names:
        shutil.copy(out / base / name, folder / name)
    for name, content in {**defaults, **files}.items():
        if content is None:
            (folder / name).unlink(missing_ok=True)
        else:
            (folder / name).write_text(json.dumps(content))
    if changes:
        path = folder / "tokenizer.json"
        tokenizer = json.loads(path.read_text())
        for at, value in changes:
            change(tokenizer, at, copy.deepcopy(value))
        path.write_text(json.dumps(tokenizer))


def ids(folder, length):
    tokenizer = AutoTokenizer.from_pretrained(folder)
    limits = {} if length is None else {"truncation": True, "max_length": length}
    return [tokenizer(text, padding=False, **limits)["input_ids"] for text in TEXTS]


def goldens(out):
    """What folders.json holds."""
    folders, first = [], {}
    for name, (base, files, *rest) in FOLDERS.items():
        changes, length = (*rest, [], None)[:2] if len(rest) != 1 else (rest[0], None)
        with tempfile.TemporaryDirectory() as place:
            write(out, base, files, changes, Path(place))
            found = ids(place, length)
        like = first.setdefault(base, (name, found))
        known, differ = like[1] if like[0] != name else [None] * len(found), {}
        for at, value in enumerate(found):
            if value != known[at]:
                differ[str(at)] = value
        names, defaults = BASES[base]
        folders.append({
            "name": name, "base": base, "copied": names, "files": {**defaults, **files}, "changes": changes,
            "length": length, "like": like[0], "ids": differ,
        })
    return {"texts": TEXTS, "folders": folders}


def differing(root):
    """Lines that say where a folder below `root` has other ids than folders.json."""
    path = Path(__file__).resolve().parent.parent / "tests" / "goldens" / "hub_tokenizers" / "folders.json"
    stored = json.loads(path.read_text())
    of_name = {folder["name"]: folder["ids"] for folder in stored["folders"]}
    for folder in stored["folders"]:
        found = ids(root / folder["name"], folder["length"])
        for at, value in enumerate(found):
            known = folder["ids"] if str(at) in folder["ids"] else of_name[folder["like"]]
            expected = known[str(at)]
            if value != expected:
                yield f"{folder['name']}: {TEXTS[at]!r} is {value}, and was {expected}"


if __name__ == "__main__":
    lines = list(differing(Path(sys.argv[1])))
    print("\n".join(lines) or "all ids are equal")
    sys.exit(bool(lines))
