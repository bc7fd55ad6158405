"""Stream an answer with a compressed cache, and compare its size with the fp16 cache.

python examples/generate.py [--model PATH_OR_NAME] [--scheme small] [--prompt TEXT]
"""

import argparse

from mlx_lm import load, stream_generate

from tqgen_kernels import apply_patch, make_prompt_cache
from tqgen_kernels.demo.model import demo_model


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", help="an mlx-lm model; default: the demo model")
    parser.add_argument("--scheme", default="balanced")
    parser.add_argument("--prompt", default="Write a long story about a lighthouse.")
    parser.add_argument("--max-tokens", type=int, default=120)
    args = parser.parse_args()

    apply_patch()  # attention then reads packed keys and values
    path = args.model or str(demo_model(say=print, progress=lambda *_: None))
    model, tokenizer, *_ = load(path)
    prompt = tokenizer.apply_chat_template(
        [{"role": "user", "content": args.prompt}], add_generation_prompt=True
    )

    cache = make_prompt_cache(model, scheme=args.scheme)
    for part in stream_generate(
        model, tokenizer, prompt, max_tokens=args.max_tokens, prompt_cache=cache
    ):
        print(part.text, end="", flush=True)

    compressed = sum(layer.nbytes for layer in cache)
    stock = sum(side.nbytes for layer in cache for side in layer.keys_and_values())
    print(f"\n\n{cache[0].offset} tokens: {compressed:,} bytes, {stock:,} uncompressed")
    print("The first 4 and the newest 64 to 95 tokens are exact: the gain grows with the context.")


if __name__ == "__main__":
    main()
