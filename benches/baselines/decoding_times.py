"""Times of decoding, the same for every peer: runs of one token and whole ones in turn, and a step out of both."""

import statistics
import time


def timed(generate, args):
    """What `generate(tokens)` takes for one token and for all; it returns how many tokens each answer has."""

    def run(tokens):
        start = time.perf_counter()
        lengths = generate(tokens)
        seconds = time.perf_counter() - start
        assert lengths == [tokens] * args.batch_size, lengths
        return seconds

    for _ in range(args.warmup):
        run(1), run(args.max_new_tokens)
    first, seconds = [], []
    for _ in range(args.repeat):
        first.append(run(1))
        seconds.append(run(args.max_new_tokens))
    steps = [(whole - one) / (args.max_new_tokens - 1) for whole, one in zip(seconds, first)]
    return {
        "batch_size": args.batch_size,
        "max_source_length": args.max_source_length,
        "max_new_tokens": args.max_new_tokens,
        "num_beams": args.num_beams,
        "precision": args.precision,
        "seconds": seconds,
        "first_token_seconds": first,
        "step_seconds": steps,
        "step_median_s": statistics.median(steps),
        "median_s": statistics.median(seconds),
    }


def add_arguments(parser, precisions):
    """What a peer of generation is asked."""
    parser.add_argument("--batch-size", type=int, default=1)
    parser.add_argument("--max-source-length", type=int, default=1024)
    parser.add_argument("--max-new-tokens", type=int, default=64)
    parser.add_argument("--num-beams", type=int, default=1)
    parser.add_argument("--precision", choices=precisions, default="fp32")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeat", type=int, default=5, help="timed runs")
    parser.add_argument("--warmup", type=int, default=1, help="runs before the timed ones")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of a line of text")


def line(result):
    return (
        f"{result['baseline']}, batch {result['batch_size']}, {result['num_beams']} beams: {result['median_s']:.3f} s, "
        f"{1e3 * result['step_median_s']:.2f} ms a step"
    )
