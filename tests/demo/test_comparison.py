from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from mlx_lm.models.cache import make_prompt_cache

from tqgen_kernels.demo.comparison import Sizes, answers, compare, equal_prefix
from tqgen_kernels.demo.generation import chat_prompt, generate
from tqgen_kernels.demo.model import write_model
from tqgen_kernels.quality.load import LoadedModel, load_model
from tqgen_kernels.quality.teacher import Steps


def silent(what: str, done: int, total: int) -> None:
    return None


@pytest.fixture(scope="module")
def loaded(tiny_gguf: Path, tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    folder = tmp_path_factory.mktemp("tiny")
    write_model(tiny_gguf, folder, "float32", silent)
    return load_model(str(folder))


def test_choices_are_what_the_model_says_after_the_reference(loaded: LoadedModel) -> None:
    def run(reference: list[int] | None) -> Any:
        cache = make_prompt_cache(loaded.model)
        prompt = [5, 9, 30, 77]
        return generate(loaded.model, loaded.tokenizer, prompt, cache, 12, str, reference)

    own = run(None)
    assert own.choices == own.tokens
    assert run(own.tokens).choices == own.tokens  # given its own words it says them again
    other = [t + 1 for t in own.tokens]
    choices = run(other).choices
    assert choices[0] == own.tokens[0]
    assert choices != own.tokens


def test_generate_refuses_an_empty_prompt(loaded: LoadedModel) -> None:
    with pytest.raises(ValueError, match="give 2 and 1 or more"):
        generate(loaded.model, loaded.tokenizer, [1], [], 4, str)


def test_chat_prompt_takes_the_head_of_the_text(loaded: LoadedModel) -> None:
    prompt = chat_prompt(loaded.tokenizer, "the " * 100, 10)
    text = loaded.tokenizer.decode(prompt)
    assert text.startswith("<|im_start|>the the")
    assert text.count("the ") < 12


def test_fp16_against_itself_and_a_scheme(loaded: LoadedModel) -> None:
    sizes = Sizes(prompt=120, answer=6, window=Steps(192, 160, 64, 16))
    text = "the cat sat on the mat and the dog did not. " * 30
    heard: list[str] = []
    given = answers(loaded, "k2v2", text, sizes, lambda cache, piece: heard.append(cache))
    assert set(heard) == {"fp16", "k2v2"}
    fp16, tiny = compare(loaded, "k2v2", text, sizes, given, silent)
    assert (fp16.kl_mean, fp16.top1, fp16.compression) == (0.0, 100.0, 1.0)
    assert fp16.equal_choices == fp16.equal_prefix == fp16.answer_tokens == len(given[0].tokens)
    assert tiny.compression > 4
    assert fp16.bytes_per_token == 2 * 2 * 2 * 2 * 32  # layers, sides, heads, bytes, head_dim
    assert tiny.kl_mean > 0
    assert tiny.perplexity == pytest.approx(fp16.perplexity, rel=0.2)


def test_equal_prefix() -> None:
    assert equal_prefix([1, 2, 3], [1, 2, 4]) == 2
    assert equal_prefix([1, 2, 3], [1, 2]) == 2
    assert equal_prefix([], [1]) == 0
