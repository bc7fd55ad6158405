"""All of mlx-lm's roads with caches whose every token is still exact: the very tokens of mlx-lm's
own caches, whatever is asked of them."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest
from mlx.utils import tree_map
from mlx_lm import generate
from mlx_lm.generate import (
    BatchGenerator,
    batch_generate,
    generate_step,
    speculative_generate_step,
    stream_generate,
)
from mlx_lm.models import cache as mlx_caches
from mlx_lm.models import gemma3_text, qwen2
from mlx_lm.models.cache import (
    LRUPromptCache,
    can_trim_prompt_cache,
    load_prompt_cache,
    save_prompt_cache,
    trim_prompt_cache,
)
from mlx_lm.sample_utils import make_logits_processors, make_sampler
from mlx_lm.utils import load

from tqgen_kernels import Scheme, apply_patch, make_prompt_cache, remove_patch

EXACT = Scheme(8, 8, residual=4096)  # nothing here is long enough to be packed
SHAPE: dict[str, Any] = {
    "hidden_size": 128, "intermediate_size": 128, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 64, "rms_norm_eps": 1e-6, "vocab_size": 258,
}  # fmt: skip
PROMPT = [(7 * i * i + 3 * i) % 250 for i in range(100)]
SHORT = [5, 77, 130]
Make = Callable[..., list[Any]]


class Roads:
    """A model, a draft of it, one with sliding windows, and a tokenizer."""

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer
        self.model, self.draft = _qwen(0.0), _qwen(0.002)
        mx.random.seed(4)
        windows = {"num_hidden_layers": 4, "sliding_window": 32, "sliding_window_pattern": 2}
        fields = SHAPE | windows | {"model_type": "gemma3_text"}
        self.windows = gemma3_text.Model(gemma3_text.ModelArgs.from_dict(fields))
        mx.eval(self.windows.parameters())


def _qwen(noise: float) -> Any:
    mx.random.seed(3)
    fields = SHAPE | {"model_type": "qwen2", "num_hidden_layers": 2, "tie_word_embeddings": False}
    model = qwen2.Model(qwen2.ModelArgs.from_dict(fields))
    # Large enough that greedy tokens do not repeat.
    model.update(
        tree_map(
            lambda p: 3 * p + noise * mx.random.normal(p.shape) if p.ndim == 2 else p,
            model.parameters(),
        )
    )
    mx.eval(model.parameters())
    return model


@pytest.fixture(scope="module")
def roads(tiny_model_path: Path) -> Iterator[Roads]:
    apply_patch()
    yield Roads(load(str(tiny_model_path))[1])
    remove_patch()


def steps(
    model: Any, cache: list[Any], prompt: list[int] = PROMPT, n: int = 10, **options: Any
) -> Any:
    found = generate_step(mx.array(prompt), model, max_tokens=n, prompt_cache=cache, **options)
    return [int(token) for token, _ in found]


def draft(r: Roads, make: Make, size: int | None = None, **options: Any) -> Any:
    cache = make(r.model, size) + make(r.draft, size)
    found = speculative_generate_step(
        mx.array(PROMPT), r.model, r.draft, max_tokens=14, prompt_cache=cache, **options
    )
    return [(int(token), bool(drafted)) for token, _, drafted in found]


def processors(r: Roads, make: Make) -> Any:
    penalties = make_logits_processors({5: 3.0}, 1.3, 20, 0.5, 20, 0.5, 20)
    return steps(r.model, make(r.model), logits_processors=penalties)


def sampled(r: Roads, make: Make) -> Any:
    mx.random.seed(7)
    options: Any = {"xtc_probability": 0.5, "xtc_threshold": 0.001, "xtc_special_tokens": [1]}
    return steps(r.model, make(r.model), sampler=make_sampler(0.8, 0.9, 0.01, 1, 20, **options))


def embedded(r: Roads, make: Make) -> Any:
    rows = r.model.model.embed_tokens(mx.array(PROMPT))
    return steps(r.model, make(r.model), input_embeddings=rows)


def progress(r: Roads, make: Make) -> Any:
    calls: list[Any] = []
    options: Any = {"prompt_progress_callback": lambda *counts: calls.append(counts)}
    return steps(r.model, make(r.model), prefill_step_size=32, **options), calls


def streamed(r: Roads, make: Make) -> Any:
    cache = make(r.model) + make(r.draft)
    options: Any = {"draft_model": r.draft, "num_draft_tokens": 2, "max_tokens": 8}
    found = stream_generate(r.model, r.tokenizer, PROMPT, prompt_cache=cache, **options)
    return [(a.token, a.from_draft, a.finish_reason, a.prompt_tokens) for a in found]


def written(r: Roads, make: Make) -> Any:
    return generate(r.model, r.tokenizer, "hello you", max_tokens=6, prompt_cache=make(r.model))


def trimmed(model: Any, cache: list[Any], n: int) -> Any:
    steps(model, cache, PROMPT[:30], 3)
    found = can_trim_prompt_cache(cache), trim_prompt_cache(cache, n)
    return found, [layer.offset for layer in cache], steps(model, cache, PROMPT[70:], 5)


def stored(model: Any, cache: list[Any], folder: Path) -> Any:
    steps(model, cache, PROMPT[:70], 3)
    save_prompt_cache(str(folder / "a.safetensors"), cache, {"a": "b"})
    cache, metadata = load_prompt_cache(str(folder / "a.safetensors"), return_metadata=True)
    return metadata, steps(model, cache, PROMPT[70:], 5)


def looked_up(r: Roads, make: Make) -> Any:
    prompts, cache, found = LRUPromptCache(max_size=3), make(r.model), []
    steps(r.model, cache, PROMPT[:40], 1)
    prompts.insert_cache("m", PROMPT[:41], cache)
    for key in (PROMPT[:41], PROMPT[:60], PROMPT[:20], PROMPT[5:20]):
        layers, rest = prompts.fetch_nearest_cache("m", key)
        found.append((len(rest), [layer.offset for layer in layers or []]))
    prompts.trim_to(n_sequences=0)
    return found, len(prompts)


def batched(r: Roads, make: Make) -> Any:
    rows = [make(r.model) for _ in range(3)]
    steps(r.model, rows[1], PROMPT[:20], 2)
    options: Any = {"max_tokens": [3, 6, 2], "return_prompt_caches": True}
    prompts = [PROMPT, SHORT, PROMPT[10:50]]
    found = batch_generate(r.model, r.tokenizer, prompts, prompt_caches=rows, **options)
    return found.texts, [[layer.offset for layer in cache] for cache in found.caches]


def served(model: Any, make: Make, **options: Any) -> Any:
    """Prompts come and go while others are answered."""
    batch = BatchGenerator(model, max_tokens=6, **options)
    found: dict[int, Any] = {}
    uids = batch.insert([PROMPT, SHORT, PROMPT[20:70]], caches=[make(model) for _ in "abc"])
    for i in range(100):
        prompts, answers = batch.next()
        if not prompts and not answers:
            break
        for answer in answers:
            sizes = [layer.size() for layer in answer.prompt_cache or []]
            found.setdefault(answer.uid, []).append((answer.token, answer.finish_reason, sizes))
        if i == 2:
            batch.insert([PROMPT[:33]], caches=[make(model)])
        if i == 3:
            batch.extract_cache([uids[2]])
            batch.remove([uids[0]], return_prompt_caches=True)
    batch.close()
    return found


def copied(r: Roads, make: Make) -> Any:
    cache = make(r.model)
    first = steps(r.model, cache, PROMPT[:40], 2)
    other = steps(r.model, copy.deepcopy(cache), SHORT, 3)
    return first, other, steps(r.model, cache, PROMPT[40:50], 3)


CASES: dict[str, Callable[[Roads, Make, Path], Any]] = {
    "a prompt": lambda r, make, _: steps(r.model, make(r.model)),
    "one token": lambda r, make, _: steps(r.model, make(r.model), SHORT[:1]),
    "chunks": lambda r, make, _: steps(r.model, make(r.model), prefill_step_size=16),
    "max_kv_size": lambda r, make, _: steps(r.model, make(r.model, 48), n=60, prefill_step_size=20),
    "sliding windows": lambda r, make, _: steps(r.windows, make(r.windows), n=40),
    "kv_bits": lambda r, make, _: steps(
        r.model, make(r.model), kv_bits=8, kv_group_size=32, quantized_kv_start=50
    ),
    "drafts of 3": lambda r, make, _: draft(r, make, num_draft_tokens=3),
    "drafts of 12": lambda r, make, _: draft(r, make, num_draft_tokens=12, prefill_step_size=16),
    "drafts in a window": lambda r, make, _: draft(r, make, 256, num_draft_tokens=3),
    "trim": lambda r, make, _: trimmed(r.model, make(r.model), 9),
    "trim all": lambda r, make, _: trimmed(r.model, make(r.model), 32),
    "trim windows": lambda r, make, _: trimmed(r.windows, make(r.windows), 9),
    "files": lambda r, make, folder: stored(r.model, make(r.model), folder),
    "files of windows": lambda r, make, folder: stored(r.windows, make(r.windows), folder),
    "batches": lambda r, make, _: served(r.model, make),
    "batches one by one": lambda r, make, _: served(
        r.model, make, prefill_batch_size=1, completion_batch_size=2, prefill_step_size=16
    ),
    "batches of windows": lambda r, make, _: served(r.windows, make),
}
WHOLE = (processors, sampled, embedded, progress, streamed, written, looked_up, batched, copied)
CASES |= {road.__name__: lambda r, make, _, road=road: road(r, make) for road in WHOLE}


@pytest.mark.parametrize("case", CASES)
def test_the_tokens_are_those_of_mlx_lms_own_caches(
    case: str, roads: Roads, tmp_path: Path
) -> None:
    def ours(model: Any, size: int | None = None) -> list[Any]:
        return make_prompt_cache(model, size, scheme=EXACT)

    plain: Any = mlx_caches.make_prompt_cache
    expected = CASES[case](roads, plain, tmp_path)
    assert CASES[case](roads, ours, tmp_path) == expected
    assert expected


def test_a_prompt_cache_of_fewer_tokens_than_stay_is_refused(roads: Roads) -> None:
    with pytest.raises(ValueError, match="max_kv_size 4 is not supported.*at least 5"):
        make_prompt_cache(roads.model, 4)
    assert make_prompt_cache(roads.model, 5)[0].max_size == 5
