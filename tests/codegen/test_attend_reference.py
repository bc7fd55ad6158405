"""The reference of attend: by any number of tokens at a time; and what a threshold allows."""

import dataclasses

import numpy as np
import pytest

from tqgen_kernels.codegen.families import FAMILIES, attend_reference
from tqgen_kernels.codegen.families.attend import expected_output, rows_of
from tqgen_kernels.codegen.problem import AttendProblem, format_problem, parse_problem

ATTEND = FAMILIES["attend"]
PROBLEM = AttendProblem(64, 32, 4, 3, gqa=3, q_len=2, kv_heads=2, batch=2)


@pytest.mark.parametrize(
    "fields",
    [{}, {"key_bits": 16}, {"value_bits": 16}, {"mask": "boolean"}, {"fresh": True},
     {"storage": "fragment", "codebook": "mixed"}],
    ids=str,
)  # fmt: skip
def test_chunks_change_nothing(fields: dict[str, object], monkeypatch: pytest.MonkeyPatch) -> None:
    p = dataclasses.replace(PROBLEM, **fields)  # type: ignore[arg-type]
    example = ATTEND.example(p, np.random.default_rng(1), 400)
    together = expected_output(p, example)
    monkeypatch.setattr(attend_reference, "_CHUNK", 1)
    np.testing.assert_allclose(expected_output(p, example), together, rtol=1e-12, atol=1e-13)


def test_an_exact_side_is_the_tokens_as_they_came() -> None:
    """Against attention over the same tokens in their order: leading, packed, newest."""
    p = AttendProblem(64, 32, 16, 3, kv_heads=1)
    example = ATTEND.example(p, np.random.default_rng(2), 300)
    (row,) = rows_of(example.inputs["params"])
    leading, gone = example.inputs["params"][13:15]
    keys = np.delete(example.inputs["exact_keys"], slice(leading, leading + gone), axis=2)
    keys = keys[:, :, : row.packed + row.exact]
    in_order = dataclasses.replace(p, key_bits=4, value_bits=16)  # whose values are the same way
    values = np.random.default_rng(3).standard_normal((1, 1, keys.shape[2], 32))
    room = np.zeros((1, 1, example.inputs["exact_keys"].shape[2], 32))
    room[:, :, :leading] = values[:, :, :leading]
    room[:, :, leading + gone : keys.shape[2] + gone] = values[:, :, leading:]
    example = dataclasses.replace(example, inputs={**example.inputs, "exact_values": room})
    found = [
        np.concatenate(list(attend_reference._tokens(q, example, 0, row, side)), axis=1)
        for q, side in ((p, "key"), (in_order, "value"))
    ]
    order = np.r_[leading : leading + row.packed, 0:leading, leading + row.packed : keys.shape[2]]
    np.testing.assert_array_equal(found[0], keys[0][:, order])
    np.testing.assert_array_equal(found[1], values[0][:, order])


def test_what_a_threshold_allows_is_the_weight_below_it() -> None:
    example = ATTEND.example(PROBLEM, np.random.default_rng(1), 400)
    (row, _) = rows_of(example.inputs["params"])
    none, some, all_of_it = (
        attend_reference.attention_of_row(
            dataclasses.replace(PROBLEM, value_threshold=t), example, 0, row
        )[1]
        for t in (0.0, 1e-3, 0.99)
    )
    assert (none == 0).all()
    assert ((some > 0) & (some < all_of_it)).all()


@pytest.mark.parametrize("threshold", [1e-4, 0.25, 1.5e-07])
def test_a_threshold_is_spelled_and_read_back(threshold: float) -> None:
    p = dataclasses.replace(PROBLEM, value_threshold=threshold)
    assert parse_problem(format_problem(p)) == p


@pytest.mark.parametrize("threshold", [1.0, -0.1, 1e-31, float("nan"), 1, True, "0.1"])
def test_what_is_no_threshold(threshold: object) -> None:
    with pytest.raises(ValueError, match="value_threshold .* softmax weight"):
        dataclasses.replace(PROBLEM, value_threshold=threshold)  # type: ignore[arg-type]


def test_two_exact_sides_or_fragments_of_one_say_what_is_allowed() -> None:
    for fields in ({"key_bits": 16, "value_bits": 16}, {"key_bits": 16, "storage": "fragment"}):
        with pytest.raises(ValueError, match="one of the two sides"):
            dataclasses.replace(PROBLEM, **fields)  # type: ignore[arg-type]
