"""What the server refuses, without a server: each check alone."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from tqgen_kernels.serving.install import check_port
from tqgen_kernels.serving.refusals import check_body, check_tokens, check_vocabulary, vocabulary


def sampling(top_k: int = 0, logit_bias: dict[int, float] | None = None) -> Any:
    return SimpleNamespace(
        sampling=SimpleNamespace(top_k=top_k), logits=SimpleNamespace(logit_bias=logit_bias)
    )


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"prompt": "a", "stop": None, "seed": None},
        {"prompt": "a", "stop": "b", "seed": 2**64 - 1, "xtc_threshold": 0.5},
        {"prompt": "", "stop": ["b", ""], "seed": 0},
    ],
)
def test_what_mlx_lm_can_answer_passes(body: dict[str, Any]) -> None:
    check_body("/v1/completions", body)
    check_body("/v1/chat/completions", body | {"prompt": 5})  # no field of a chat


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"prompt": None}, "prompt must be a string, not NoneType"),
        ({"stop": 5}, "stop 5 is not supported"),
        ({"stop": ["a", None]}, "a list of strings"),
        ({"xtc_threshold": 0.51}, "at most 0.5"),
        ({"seed": 2**64}, "seed 18446744073709551616"),
    ],
)
def test_what_it_would_die_of_does_not(body: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_body("/v1/completions", body)


def test_tokens_are_those_of_the_vocabulary() -> None:
    check_tokens([1])
    check_vocabulary(sampling(9, {0: 1.0, 9: 1.0, -10: 1.0}), 10)
    check_vocabulary(sampling(), 10)
    with pytest.raises(ValueError, match="prompt is empty"):
        check_tokens([])
    with pytest.raises(ValueError, match="top_k 10 .* give 0 to 9"):
        check_vocabulary(sampling(10), 10)
    for token in (10, -11):
        with pytest.raises(ValueError, match=f"names token {token}: the model's are 0 to 9"):
            check_vocabulary(sampling(0, {token: 1.0}), 10)


def test_the_vocabulary_is_the_models() -> None:
    tokenizer = SimpleNamespace(get_vocab=lambda: {"a": 0, "b": 1})
    inner = SimpleNamespace(text_config={"vocab_size": 6})
    assert vocabulary(SimpleNamespace(args=SimpleNamespace(vocab_size=5)), tokenizer) == 5
    assert vocabulary(SimpleNamespace(args=inner), tokenizer) == 6
    assert vocabulary(SimpleNamespace(), tokenizer) == 2


def test_a_port_that_cannot_be() -> None:
    with pytest.raises(ValueError, match=r"cannot listen on 192\.0\.2\.1, port 8080"):
        check_port("192.0.2.1", 8080)
    check_port("127.0.0.1", 0)
