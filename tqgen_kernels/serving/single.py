"""Requests that mlx-lm serves one by one (a draft model, a seed): their prompts, block by block."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate
from typing import Any

import mlx.core as mx
from mlx_lm.generate import stream_generate as generate_from

from tqgen_kernels.serving.blocks import pieces, read, stores
from tqgen_kernels.serving.reuse import Reused

Processor = Callable[[mx.array, mx.array], mx.array]


def stream_generate(
    model: Any,
    tokenizer: Any,
    prompt: list[int],
    *,
    prompt_cache: list[Any],
    stream: Any,
    draft_model: Any = None,
    input_embeddings: mx.array | None = None,
    logits_processors: Sequence[Processor] | None = None,
    **options: Any,
) -> Iterator[Any]:
    """mlx_lm's stream_generate, which reads whole blocks of the prompt first and seals them.

    Logits processors see the whole prompt, whatever of it was reused. A prompt with images is not
    cut, and its cache never stored.
    """
    reused = prompt_cache.tokens if isinstance(prompt_cache, Reused) else []
    done = 0
    if input_embeddings is None and (found := stores(prompt_cache)):
        layers = len(model.layers)
        caches = [(model, prompt_cache[:layers]), (draft_model, prompt_cache[layers:])]
        *lengths, _ = pieces(found[0].tokens, found[0].tokens + len(prompt), found[0].scheme.sinks)
        with mx.stream(stream):
            for stop, length in zip(accumulate(lengths), lengths, strict=True):
                for reader, cache in caches:
                    if reader is not None:
                        part = prompt[stop - length : stop]
                        read(reader, part, cache, options["prefill_step_size"])
                done = stop
    before = mx.array([*reused, *prompt[:done]], mx.uint32)
    if draft_model is None and logits_processors and before.size:
        logits_processors = [_after(before, processor) for processor in logits_processors]
    yield from generate_from(
        model,
        tokenizer,
        prompt[done:],
        prompt_cache=prompt_cache,
        stream=stream,
        draft_model=draft_model,
        input_embeddings=input_embeddings,
        logits_processors=logits_processors,
        **options,
    )


def _after(before: mx.array, processor: Processor) -> Processor:
    def process(tokens: mx.array, logits: mx.array) -> mx.array:
        return processor(mx.concatenate([before, tokens.astype(mx.uint32)]), logits)

    return process
