"""The CTranslate2 side of `wattention bench generate`: Translator.translate_batch on the CPU.

    python benches/baselines/ct2_generate.py --model FOLDER --precision int8 --num-beams 4 --threads 2 --json

FOLDER is one that ct2_model.py wrote. The weights, float32 there, are brought to the precision when they are loaded,
and are not part of the time. int8 are weights in 8 bits, those of the embedding and the head included, beside
activations in float32 (int8-bf16: in bfloat16). Every answer has all of its tokens: the end is forbidden before. With
--expect FILE, `same_tokens` is the share of the tokens that equal those of `sequences` there.
"""

import argparse
import json
from pathlib import Path

import ctranslate2
from safetensors.numpy import load_file

import decoding_times

COMPUTE_TYPES = {"fp32": "float32", "bf16": "bfloat16", "int8": "int8_float32", "int8-bf16": "int8_bfloat16"}


def parse_arguments():
    parser = argparse.ArgumentParser(description="Times translate_batch() of CTranslate2.")
    parser.add_argument("--model", type=Path, required=True, help="folder that ct2_model.py wrote")
    parser.add_argument("--expect", type=Path, help="tokens to compare with, as `wattention generate --inputs` writes")
    decoding_times.add_arguments(parser, list(COMPUTE_TYPES))
    return parser.parse_args()


def same(answers, path):
    # The first token is the one that every answer starts from.
    expected = load_file(path)["sequences"][:, 1:].tolist()
    pairs = [pair for ours, theirs in zip(expected, answers) for pair in zip(ours, theirs)]
    return sum(ours == int(theirs) for ours, theirs in pairs) / len(pairs)


def main():
    args = parse_arguments()
    ids = load_file(args.model / f"inputs-{args.batch_size}.safetensors")["input_ids"]
    assert ids.shape == (args.batch_size, args.max_source_length), ids.shape
    source = [[str(number) for number in row] for row in ids.tolist()]
    translator = ctranslate2.Translator(
        str(args.model / "ctranslate2"),
        compute_type=COMPUTE_TYPES[args.precision],
        inter_threads=1,
        intra_threads=args.threads,
    )

    def answers(tokens):
        results = translator.translate_batch(
            source,
            beam_size=args.num_beams,
            max_input_length=0,
            max_decoding_length=tokens,
            min_decoding_length=tokens,
        )
        return [result.hypotheses[0] for result in results]

    result = {
        "baseline": "ctranslate2",
        "compute_type": translator.compute_type,
        "threads": args.threads,
        **decoding_times.timed(lambda tokens: [len(answer) for answer in answers(tokens)], args),
        **({"same_tokens": same(answers(args.max_new_tokens), args.expect)} if args.expect else {}),
        "ctranslate2": ctranslate2.__version__,
    }
    print(json.dumps(result) if args.json else decoding_times.line(result))


if __name__ == "__main__":
    main()
