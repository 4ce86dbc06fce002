"""ROUGE by rouge_score and the SQuAD-style F1 of awkward texts, as rouge_f1.json.

Each row: prediction, references, rouge1/rouge2/rougeL (f-measure, no stemmer, best over references for each
measure by itself), f1 (best over references), normalized (the prediction, then each reference). Beside each measure its
precision and recall against the reference that is best by it, the first of several.
"""

import json
import re
import string
from collections import Counter
from pathlib import Path

import numpy as np
from rouge_score.rouge_scorer import RougeScorer

MEASURES = ("rouge1", "rouge2", "rougeL")
PUNCTUATION = str.maketrans("", "", string.punctuation)
RANDOM_PAIRS = 160
RANDOM_MULTI = 20

# Compared each with itself, with its neighbour and with a plain sentence.
TEXTS = [
    "", " ", "\n", "...", "!?;:", "\u2014", "a", "The", "a an the", "The theatre is a theme, an antidote",
    "the cat sat on the mat", "The cat, the CAT and THE Cat!", "cat sat mat the on the",
    "\u00c9cole caf\u00e9 na\u00efve", "ecole cafe naive", "cafe\u0301 the\u0301 the\u00e9", "Stra\u00dfe STRASSE",
    "\u0130stanbul \u0131\u015f\u0131k",
    "300 \u212a is 27 \u00b0C", "\ufb01nal o\ufb03ce", "\u0395\u03a5\u03a1\u03a9\u03a3 \u03c3\u03c2\u03a3",
    "\u4f60\u597d \u4e16\u754c", "\u4f60\u597d\u4e16\u754c 123",
    "\u0645\u0631\u062d\u0628\u0627 \u0664\u0662", "\U0001f600 smile \U0001f600", "x\u00b2 + y\u00b3 = \u00bd",
    "don't won't it's", "dont wont its", "state-of-the-art", "state of the art", "U.S.A. e.g. i.e.", "USA eg ie",
    "1,000,000.50 dollars", "1000000.50 dollars", "100% of $5", "v2.0 3rd 2nd1",
    "under_score snake_case", "a_b the_end",
    "line one\nline two\r\n\tline three", "line one line two line three", "tab\tand\u00a0no-break\u3000wide\u2003space",
    "unit\x1fseparator\x1cfile\x85next", "zero\u200bwidth\u200djoin",
    "soft\u00adhyphen \u2019quoted\u2019 \u201cwords\u201d",
    "no no no no yes", "yes yes no", "A. An. The.", "an a-the an't", "theand then a'", "<s> </s> <pad>",
    "Unanswerable", "unanswerable.", "Yes", "yes, the answer is yes", "(a) [an] {the}", "@user #tag http://a.b/c?d=e&f",
    "word " * 60 + "end", "end " + "word " * 59, "ABCDEFGHIJKLMNOPQRSTUVWXYZ",
    "a b c d e f g h i j", "j i h g f e d c b a",
]
WORDS = (
    "the a an The A of and report council budget, climate; energy. Model model models 12 3.5 state caf\u00e9 "
    "caf\u00e9. na\u00efve r\u00e9sum\u00e9 it's its \u201cquoted\u201d - \u2013 ... \n attention (long) long-range"
).split(" ")


def normalize(text):
    """The SQuAD answer normalisation: lower case, no ASCII punctuation, no articles, single spaces."""
    text = text.lower().translate(PUNCTUATION)
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", text).split())


def f1(prediction, reference):
    """Precision, recall and F of the bags of normalised words; 0 when they share none, also when both are empty."""
    predicted, wanted = normalize(prediction).split(), normalize(reference).split()
    common = sum((Counter(predicted) & Counter(wanted)).values())
    if common == 0:
        return 0.0, 0.0, 0.0
    precision, recall = common / len(predicted), common / len(wanted)
    return precision, recall, 2 * precision * recall / (precision + recall)


def random_text(rng, longest=40):
    return " ".join(rng.choice(WORDS, rng.integers(0, longest)))


def edited(rng, text):
    """Some words dropped, replaced or moved, so that the texts overlap."""
    words = text.split(" ")
    kept = [rng.choice(WORDS) if rng.random() < 0.2 else w for w in words if rng.random() < 0.8]
    if len(kept) > 4 and rng.random() < 0.5:
        cut = rng.integers(1, len(kept) - 1)
        kept = kept[cut:] + kept[:cut]
    return " ".join(kept)


def make_pairs():
    rng = np.random.default_rng(7)
    plain = "the cat sat on the mat in a cafe with 1000 words and state of the art models"
    pairs = []
    for i, text in enumerate(TEXTS):
        pairs += [(text, [text]), (text, [TEXTS[(i + 1) % len(TEXTS)]]), (plain, [text])]
    for _ in range(RANDOM_PAIRS):
        reference = random_text(rng)
        pairs.append((edited(rng, reference), [reference]))
    for _ in range(RANDOM_MULTI):
        reference = random_text(rng)
        others = [edited(rng, reference) for _ in range(rng.integers(1, 4))]
        pairs.append((edited(rng, reference), [random_text(rng), *others]))
    # The best reference differs by measure: same words in another order against fewer words in order.
    pairs.append(("one two three four", ["four three two one", "one two three", "five"]))
    pairs.append(("", ["", "words"]))
    return pairs


def write_rouge_f1(name, out):
    """Writes `out`/name.json and returns a line that sums it up."""
    scorer = RougeScorer(MEASURES, use_stemmer=False)
    rows = []
    for prediction, references in make_pairs():
        prediction, references = str(prediction), [str(r) for r in references]
        scores = [scorer.score(reference, prediction) for reference in references]
        best = {m: max((tuple(score[m]) for score in scores), key=lambda score: score[2]) for m in MEASURES}
        best["f1"] = max((f1(prediction, reference) for reference in references), key=lambda score: score[2])
        rows.append({
            "prediction": prediction,
            "references": references,
            **{m: float(score[2]) for m, score in best.items()},
            **{f"{m}_precision": float(score[0]) for m, score in best.items()},
            **{f"{m}_recall": float(score[1]) for m, score in best.items()},
            "normalized": [normalize(text) for text in (prediction, *references)],
        })
    Path(out).mkdir(parents=True, exist_ok=True)
    lines = ",\n".join(json.dumps(row) for row in rows)
    (Path(out) / f"{name}.json").write_text(f"[\n{lines}\n]\n")
    partial = sum(0 < row["rougeL"] < 1 for row in rows)
    return f"{name}: {len(rows)} rows, {partial} of them with partial overlap"
