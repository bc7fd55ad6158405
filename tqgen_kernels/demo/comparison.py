"""The demo's figures: one model, the fp16 cache and a compressed one, side by side."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from operator import eq

import mlx.core as mx
import numpy as np

from tqgen_kernels.quality.agreement import agreement
from tqgen_kernels.quality.contenders import Contender, cache_bytes, contender
from tqgen_kernels.quality.load import LoadedModel
from tqgen_kernels.quality.teacher import Progress, Steps, windows

from .generation import Generation, chat_prompt, generate

STORED_TOKENS = 4096  # context at which the bytes of a token are measured


@dataclass(frozen=True)
class Sizes:
    """How much the demo computes: text tokens in the prompt, tokens of the answer, the window."""

    prompt: int
    answer: int
    window: Steps


# A Linux CPU with MLX's own wheel does some 10 tokens a second of the demo model.
CPU = Sizes(prompt=160, answer=48, window=Steps(length=320, score_from=160))
GPU = Sizes(prompt=1024, answer=128, window=Steps(length=2048, score_from=1024))


def default_sizes() -> Sizes:
    """Short on a CPU, long on a GPU."""
    return CPU if mx.default_device() == mx.cpu else GPU


@dataclass(frozen=True)
class Side:
    """One cache. bytes_per_token: all that is allocated, over all layers, in float16, at
    STORED_TOKENS tokens. top1: percent of the text's positions with fp16's most likely token.
    equal_choices: of answer_tokens, those chosen as with the fp16 cache after the same words;
    equal_prefix: tokens before the two answers part."""

    cache: str
    bytes_per_token: float
    compression: float
    prompt_tokens_per_second: float
    tokens_per_second: float
    peak_bytes: int
    perplexity: float
    kl_mean: float
    top1: float
    equal_choices: int
    equal_prefix: int
    answer_tokens: int
    answer: str


def equal_prefix(a: list[int], b: list[int]) -> int:
    """How many tokens two answers share before they part."""
    pairs = enumerate(zip(a, b, strict=False))
    return next((i for i, (x, y) in pairs if x != y), min(len(a), len(b)))


def answers(
    loaded: LoadedModel,
    scheme: str,
    text: str,
    sizes: Sizes,
    on_text: Callable[[str, str], None],
) -> list[Generation]:
    """The same prompt answered with the fp16 cache and with `scheme`.

    scheme: a name that `quality.contenders` knows. on_text(cache, piece) gets both answers as
    they are made, one after the other.
    """
    prompt = chat_prompt(loaded.tokenizer, text, sizes.prompt)
    made: list[Generation] = []
    for each in _pair(loaded, scheme):
        made.append(
            generate(
                loaded.model,
                loaded.tokenizer,
                prompt,
                each.factory(loaded.model),
                sizes.answer,
                partial(on_text, each.name),
                made[0].tokens if made else None,
            )
        )
    return made


def compare(
    loaded: LoadedModel,
    scheme: str,
    text: str,
    sizes: Sizes,
    answered: Sequence[Generation],
    progress: Progress,
) -> list[Side]:
    """What both caches hold and what they make of the text, beside the answers they gave."""
    pair = _pair(loaded, scheme)
    tokens = loaded.tokenizer.encode(text, add_special_tokens=False, verbose=False)
    window = windows(tokens[sizes.prompt :], sizes.window, 1)[0]  # not the text of the prompt
    found = agreement(
        loaded.model,
        window,
        pair[0].factory,
        {pair[1].name: pair[1].factory},
        sizes.window,
        lambda _, done, total: progress("perplexity of both", done, total),
    )[pair[1].name]
    stored = [cache_bytes(c.factory, loaded.model, loaded.kv_shapes, STORED_TOKENS) for c in pair]
    losses = (found.reference_nll, found.nll)
    measured = ((0.0, 100.0), (float(np.mean(found.kl)), 100 * float(np.mean(found.top1))))
    return [
        Side(
            cache=each.name,
            bytes_per_token=stored[i] / STORED_TOKENS,
            compression=stored[0] / stored[i],
            prompt_tokens_per_second=answered[i].prompt_tokens_per_second,
            tokens_per_second=answered[i].tokens_per_second,
            peak_bytes=answered[i].peak_bytes,
            perplexity=float(np.exp(np.mean(losses[i]))),
            kl_mean=measured[i][0],
            top1=measured[i][1],
            equal_choices=sum(map(eq, answered[0].tokens, answered[i].choices)),
            equal_prefix=equal_prefix(answered[0].tokens, answered[i].tokens),
            answer_tokens=len(answered[0].tokens),
            answer=answered[i].text,
        )
        for i, each in enumerate(pair)
    ]


def _pair(loaded: LoadedModel, scheme: str) -> list[Contender]:
    return [contender(name, loaded.kv_shapes) for name in ("fp16", scheme)]
