"""An answer is that of the same request alone: whatever was reused, however the prompt was cut, and
whoever else was served."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest
from mlx_lm.models import gemma3_text, llama
from mlx_lm.models.cache import KVCache, make_prompt_cache
from mlx_lm.utils import load

from tqgen_kernels import apply_patch, remove_patch
from tqgen_kernels.cache.prompt import attach
from tqgen_kernels.serving.blocks import pieces, read, stores
from tqgen_kernels.serving.generator import SealedBatchGenerator
from tqgen_kernels.serving.reuse import SealedPromptCache
from tqgen_kernels.serving.single import stream_generate

VOCABULARY = 97
COMMON: dict[str, Any] = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "rms_norm_eps": 1e-5,
    "vocab_size": VOCABULARY,
}
MODELS = {
    "plain": (llama, {"model_type": "llama", "num_hidden_layers": 2, "head_dim": 32}),
    "sliding windows": (
        gemma3_text,
        {
            "model_type": "gemma3_text",
            "num_hidden_layers": 3,
            "head_dim": 32,
            "sliding_window": 40,
            "sliding_window_pattern": 3,
        },
    ),
}


@pytest.fixture(autouse=True)
def patched() -> Any:
    apply_patch()
    yield
    remove_patch()


@pytest.fixture(params=MODELS)
def model(request: pytest.FixtureRequest) -> Any:
    """A random model of which every cache is compressed to 3 bits where it can be."""
    module, fields = MODELS[request.param]
    mx.random.seed(1)
    made = module.Model(module.ModelArgs.from_dict(COMMON | fields))
    mx.eval(made.parameters())
    attach(made, bits=3)
    return made


def prompts_with_shared_starts(count: int = 7) -> list[list[int]]:
    rng = random.Random(3)
    text = [rng.randrange(VOCABULARY) for _ in range(700)]
    cuts = [rng.choice([30, 264, 300, 530, 620]) for _ in range(count)]
    return [text[:cut] + [rng.randrange(VOCABULARY) for _ in range(9 + cut % 60)] for cut in cuts]


class Server:
    """What mlx-lm's server does with a batch generator and its stored prompts."""

    def __init__(self, model: Any) -> None:
        self.model = model
        self.stored = SealedPromptCache(10)
        self.reused = 0

    def answer(self, prompts: Sequence[list[int]], tokens: int = 12) -> list[list[int]]:
        generator = SealedBatchGenerator(self.model)
        out: dict[int, list[int]] = {}
        for prompt in prompts:
            cache, rest = self.stored.fetch_nearest_cache("model", prompt)
            start = len(prompt) - len(rest)
            self.reused += start
            segments = [[rest[: len(rest) // 2], rest[len(rest) // 2 :]]]  # cut where it may be cut
            (uid,) = generator.insert_segments(segments, [tokens], [cache], [prompt[:start]])
            out[uid] = []
        running = len(prompts)
        while running:
            read_now, answered = generator.next()
            ended = [r.uid for r in read_now if r.end_of_segment and not r.end_of_prompt]
            for cache, key in generator.extract_cache(ended).values():
                assert {store.sealed for store in stores(cache)} == {len(key)}
                self.stored.insert_cache("model", key[:], cache, cache_type="user")
            for response in answered:
                out[response.uid].append(response.token)
                if response.finish_reason is not None:
                    running -= 1
                    self.stored.insert_cache("model", response.all_tokens, response.prompt_cache)
        assert generator.prompt_cache_nbytes == 0
        return list(out.values())


def test_reuse_and_company_change_no_answer(model: Any) -> None:
    prompts = prompts_with_shared_starts()
    alone = [Server(model).answer([prompt])[0] for prompt in prompts]
    server = Server(model)
    assert [server.answer([prompt])[0] for prompt in prompts] == alone
    assert server.reused > 1000
    together = Server(model)
    assert together.answer(prompts[:3]) + together.answer(prompts[3:]) == alone
    assert together.reused > 500


def test_stored_prompts_end_with_a_block_and_their_bytes_are_counted(model: Any) -> None:
    server = Server(model)
    server.answer([prompts_with_shared_starts(1)[0][:290], prompts_with_shared_starts()[2]])
    keys = [key for lru in server.stored._lru._lrus.values() for _, key in lru]
    assert keys
    assert {len(key) for key in keys} <= {260, 516}
    assert 0 < server.stored.held_bytes < server.stored.plain_bytes


def test_a_prompt_that_was_stored_whole_is_read_again_from_the_block_before() -> None:
    module, fields = MODELS["plain"]
    model = module.Model(module.ModelArgs.from_dict(COMMON | fields))
    attach(model, bits=3)
    tokens = list(range(90)) * 6
    cache = make_prompt_cache(model)
    stored = SealedPromptCache(10)
    for length in pieces(0, 516, 4):
        read(model, tokens[cache[0].offset : cache[0].offset + length], cache, 2048)
    stored.insert_cache("model", tokens[:516], cache)
    found, rest = stored.fetch_nearest_cache("model", tokens[:516])
    assert found is not None
    assert found[0].offset == 260
    assert rest == tokens[260:516]
    assert stored.fetch_nearest_cache("model", tokens[:200]) == (None, tokens[:200])
    assert stored.fetch_nearest_cache("model", tokens[:1]) == (None, tokens[:1])


def test_prompts_without_a_compressed_layer_are_stored_as_they_are() -> None:
    stored = SealedPromptCache(10)
    cache: Any = [KVCache()]
    x = mx.zeros((1, 1, 5, 32))
    cache[0].update_and_fetch(x, x)
    stored.insert_cache("model", [1, 2, 3, 4, 5], cache)
    found, rest = stored.fetch_nearest_cache("model", [1, 2, 3, 9])
    assert found is not None
    assert found[0].offset == 3
    assert rest == [9]


@pytest.mark.parametrize("draft", [False, True])
def test_requests_served_one_by_one_get_the_same_answers(
    draft: bool, tiny_model_path: Path
) -> None:
    loaded: Any = load(str(tiny_model_path))
    model, tokenizer = loaded
    module, fields = MODELS["plain"]
    mx.random.seed(2)
    small = module.Model(module.ModelArgs.from_dict(COMMON | fields | {"vocab_size": 258}))
    for made in (model, small):
        mx.eval(made.parameters())
        attach(made, bits=3)
    seen: list[int] = []

    def processor(tokens: mx.array, logits: mx.array) -> mx.array:
        seen.append(tokens.size)
        return logits

    def answer(prompt: list[int], stored: SealedPromptCache) -> list[int]:
        cache, rest = stored.fetch_nearest_cache("model", prompt)
        if cache is None:
            cache = make_prompt_cache(model)
            cache += make_prompt_cache(small) if draft else []
        responses = stream_generate(
            model,
            tokenizer,
            rest,
            prompt_cache=cache,
            stream=mx.default_stream(mx.default_device()),
            draft_model=small if draft else None,
            logits_processors=None if draft else [processor],
            max_tokens=10,
            prefill_step_size=2048,
        )
        out = [response.token for response in responses]
        stored.insert_cache("model", [*prompt, *out], cache)
        return out

    prompts = prompts_with_shared_starts(4)
    alone = [answer(prompt, SealedPromptCache(10)) for prompt in prompts]
    counts, seen[:] = list(seen), []
    stored = SealedPromptCache(10)
    assert [answer(prompt, stored) for prompt in prompts] == alone
    assert seen == counts  # a processor sees the whole prompt whatever was reused
    assert len(stored) > 0


def test_images_are_read_as_they_come_and_never_stored(tiny_model_path: Path) -> None:
    loaded: Any = load(str(tiny_model_path))
    model, tokenizer = loaded
    attach(model, bits=3)
    prompt = [1] * 300
    cache = make_prompt_cache(model)
    embeddings = model.model.embed_tokens(mx.array(prompt))
    for _ in stream_generate(
        model,
        tokenizer,
        prompt,
        prompt_cache=cache,
        input_embeddings=embeddings,
        prefill_step_size=2048,
        stream=mx.default_stream(mx.default_device()),
        max_tokens=2,
    ):
        pass
    assert cache[0].offset >= 300
    stored = SealedPromptCache(10)
    stored.insert_cache("model", prompt, cache)
    assert len(stored) == 0
