"""Read a long document once, keep its compressed prompt cache on disk, and ask it many questions.

python examples/long_document.py [--file TEXT_FILE] [--cache FILE.safetensors] [question ...]

The second run finds the cache file and does not read the document again.
"""

import argparse
import copy
from pathlib import Path

import mlx.core as mx
from mlx_lm import load, stream_generate
from mlx_lm.models.cache import load_prompt_cache, save_prompt_cache

from tqgen_kernels import apply_patch, make_prompt_cache
from tqgen_kernels.demo.model import demo_model
from tqgen_kernels.demo.text import demo_text

QUESTIONS = ("What is this text about?",)
STEP = 64  # tokens of the document that are read at a time


def read(model, tokens: list[int], scheme: str) -> list:
    """A compressed prompt cache that holds `tokens`."""
    cache = make_prompt_cache(model, scheme=scheme)
    for start in range(0, len(tokens), STEP):
        model(mx.array([tokens[start : start + STEP]]), cache=cache)
        mx.eval([layer.state for layer in cache])
        print(f"\rreading: {min(start + STEP, len(tokens))} of {len(tokens)} tokens", end="")
    print()
    return cache


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("questions", nargs="*", default=QUESTIONS)
    parser.add_argument("--file", type=Path, help="UTF-8 text; default: a page about Python")
    parser.add_argument("--cache", type=Path, default=Path("document.safetensors"))
    parser.add_argument("--model", help="an mlx-lm model; default: the demo model")
    parser.add_argument("--scheme", default="balanced")
    parser.add_argument("--max-tokens", type=int, default=30)
    args = parser.parse_args()

    apply_patch()
    model, tokenizer, *_ = load(args.model or str(demo_model(say=print, progress=lambda *_: None)))

    if args.cache.exists():
        document = load_prompt_cache(str(args.cache))
        print(f"{document[0].offset} tokens from {args.cache}")
    else:
        # MLX on a CPU reads some ten tokens a second: a short text there, a long one on a GPU.
        length = 600 if mx.default_device() == mx.cpu else 60_000
        text = args.file.read_text(encoding="utf-8") if args.file else demo_text()[:length]
        opening = f"<|im_start|>user\nRead this text.\n\n{text}\n\n"
        document = read(model, tokenizer.encode(opening), args.scheme)
        save_prompt_cache(str(args.cache), document)
        print(f"saved to {args.cache}, {args.cache.stat().st_size:,} bytes")

    for question in args.questions:
        cache = copy.deepcopy(document)  # shares the arrays until they are written
        prompt = tokenizer.encode(f"{question}<|im_end|>\n<|im_start|>assistant\n")
        print(f"\n> {question}")
        for part in stream_generate(
            model, tokenizer, prompt, max_tokens=args.max_tokens, prompt_cache=cache
        ):
            print(part.text, end="", flush=True)
        print()


if __name__ == "__main__":
    main()
