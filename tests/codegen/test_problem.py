import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tqgen_kernels.codegen.problem import (
    CONTEXT_BUCKETS,
    AttendProblem,
    CombineProblem,
    DequantizeProblem,
    EncodeProblem,
    QKScoresProblem,
    TrellisDequantizeProblem,
    TrellisEncodeProblem,
    batch_bucket,
    context_bucket,
    format_problem,
    parse_problem,
)
from tqgen_kernels.quant.hadamard import supported_dims

dims = st.sampled_from(supported_dims())
bits = st.integers(1, 8)
trellises = st.sampled_from([2, 3, 4])
dtypes = st.sampled_from(["float32", "float16", "bfloat16"])
layouts = st.sampled_from(["key", "value"])
books = st.sampled_from(["lloyd-max", "uniform", "cubic"])
whole = st.sampled_from([d for d in supported_dims() if d % 32 == 0])
fragments = st.sampled_from(["key_fragment", "value_fragment"])
problems = st.one_of(
    st.builds(EncodeProblem, dims, bits, layouts, dtypes, st.booleans()),
    st.builds(DequantizeProblem, dims, bits, layouts, dtypes, st.booleans()),
    st.builds(QKScoresProblem, dims, bits, st.integers(1, 16), st.integers(1, 8), dtypes),
    st.builds(AttendProblem, dims, dims, bits, bits, st.integers(1, 16), st.integers(1, 8), dtypes),
    st.builds(EncodeProblem, whole, bits, fragments, dtypes, codebook=books),
    st.builds(DequantizeProblem, whole, bits, fragments, codebook=books),
    st.builds(
        AttendProblem,
        whole,
        whole,
        bits,
        bits,
        codebook=st.just("cubic"),
        storage=st.just("fragment"),
    ),
    st.builds(CombineProblem, dims, dtypes),
    st.builds(TrellisEncodeProblem, dims, trellises, dtypes),
    st.builds(TrellisDequantizeProblem, dims, trellises, dtypes),
)


@given(problems)
def test_a_problem_reads_back_from_its_text(problem: object) -> None:
    assert parse_problem(format_problem(problem)) == problem  # type: ignore[arg-type]


@given(st.text(max_size=80))
def test_any_text_is_a_problem_or_a_value_error(text: str) -> None:
    try:
        problem = parse_problem(text)
    except ValueError:
        return
    assert dataclasses.is_dataclass(problem)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("attention:head_dim=128", "use one of encode, dequantize"),
        ("encode:head_dim=128,bits=9", "from 1 to 8"),
        ("encode:head_dim=100,bits=3", "96, 112, 128"),
        ("encode:bits=3", "head_dim"),
        ("trellis_encode:head_dim=128,bits=5", "2, 3 or 4"),
        ("encode:head_dim=128,bits=3,colour=red", "it has head_dim, bits"),
        ("encode:head_dim=128,bits=3,dtype=float64", "float32, float16, bfloat16"),
        ("encode:head_dim=128,bits=3,layout=row", "'key' or 'value'"),
        ("encode:head_dim=80,bits=3,layout=key_fragment", "multiple of 32"),
        ("encode:head_dim=64,bits=3,codebook=best", "lloyd-max, uniform, cubic"),
        ("attend:key_dim=64,value_dim=64,key_bits=3,value_bits=3,gqa=17", "1 to 16"),
        ("attend:key_dim=64,value_dim=80,key_bits=3,value_bits=3,storage=fragment", "value_dim 80"),
        ("attend:key_dim=64,value_dim=64,key_bits=5,value_bits=3,storage=fragment", "'cubic'"),
        ("attend:key_dim=64,value_dim=64,key_bits=5,value_bits=3,storage=rows", "'tiles' or"),
        ("attend:key_dim=64,value_dim=64,key_bits=3,value_bits=3,q_len=-1", "whole number"),
    ],
)
def test_a_bad_problem_says_what_is_allowed(text: str, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        parse_problem(text)


@given(st.integers(1, 3 * 2**20))
def test_a_context_bucket_holds_the_context_and_is_the_smallest(tokens: int) -> None:
    bucket = context_bucket(tokens)
    assert bucket in CONTEXT_BUCKETS
    assert tokens <= bucket or bucket == CONTEXT_BUCKETS[-1]
    assert not any(tokens <= b < bucket for b in CONTEXT_BUCKETS)


def test_batch_buckets_are_powers_of_two() -> None:
    assert [batch_bucket(n) for n in (1, 2, 3, 4, 5, 32, 33)] == [1, 2, 4, 4, 8, 32, 64]
