"""The text that goes to CUDA and the launches that are refused; needs no GPU."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tqgen_kernels.backends import cuda
from tqgen_kernels.codegen.families import FAMILIES
from tqgen_kernels.codegen.problem import AttendProblem, CombineProblem, Problem, family_of
from tqgen_kernels.codegen.render import render
from tqgen_kernels.codegen.variant import Launch, Variant


def default_variant(problem: Problem) -> Variant:
    return render(problem, FAMILIES[family_of(problem)].default(problem))


def test_metal_text_is_unchanged():
    variant = default_variant(AttendProblem(128, 128, 4, 3, gqa=4))
    text = cuda.cuda_text(variant, (128, 1, 1))
    assert text.header.endswith(variant.header)
    assert text.source.endswith(variant.source)


def test_attributes_are_those_that_the_source_names():
    variant = default_variant(CombineProblem(128))
    prelude = cuda.cuda_text(variant, (128, 1, 1)).source.removesuffix(variant.source)
    defined = [line.split()[2] for line in prelude.splitlines()]
    assert defined == [
        "thread_index_in_simdgroup",
        "thread_position_in_threadgroup",
        "threadgroup_position_in_grid",
    ]


def test_attribute_rule_is_by_substring():
    """As MLX does for Metal: dispatch_threads_per_threadgroup names the shorter one too."""
    variant = replace(
        default_variant(CombineProblem(128)), source="// dispatch_threads_per_threadgroup\n"
    )
    source = cuda.cuda_text(variant, (8, 2, 3)).source
    assert "const auto dispatch_threads_per_threadgroup = uint3(8u, 2u, 3u);\n" in source
    assert "const auto threads_per_threadgroup = uint3(8u, 2u, 3u);\n" in source


@pytest.mark.parametrize(
    ("threadgroup", "index"),
    [
        ((64, 1, 1), "threadIdx.x"),
        ((8, 4, 1), "threadIdx.y * 8u + threadIdx.x"),
        ((8, 2, 3), "(threadIdx.z * 2u + threadIdx.y) * 8u + threadIdx.x"),
    ],
)
def test_linear_index_of_a_thread(threadgroup, index):
    variant = replace(
        default_variant(CombineProblem(128)), source="uint i = thread_index_in_threadgroup;\n"
    )
    source = cuda.cuda_text(variant, threadgroup).source
    assert source.startswith(f"const auto thread_index_in_threadgroup = {index};\n")


def test_name_follows_all_text():
    """MLX keeps compiled kernels on disk by name: other text must have another name."""
    variant = default_variant(CombineProblem(128))
    texts = [
        cuda.cuda_text(variant, (128, 1, 1)),
        cuda.cuda_text(variant, (128, 2, 1)),
        cuda.cuda_text(replace(variant, header=variant.header + "\n"), (128, 1, 1)),
        cuda.cuda_text(replace(variant, source=variant.source + "\n"), (128, 1, 1)),
    ]
    assert len({text.name for text in texts}) == len(texts)
    assert texts[0] == cuda.cuda_text(variant, (128, 1, 1))


@pytest.mark.parametrize(
    ("grid", "threadgroup", "message"),
    [
        ((100, 1, 1), (64, 1, 1), "no multiple"),
        ((64, 3, 1), (64, 2, 1), "no multiple"),
        ((64, 65536, 1), (64, 1, 1), "65536 threadgroups"),
    ],
)
def test_launches_that_cuda_cannot_do(grid, threadgroup, message):
    launcher = cuda.build(default_variant(CombineProblem(128)))
    with pytest.raises(ValueError, match=message):
        launcher(Launch(grid, threadgroup, (), ()))


def test_mlx_gets_the_text_by_reference(tmp_path, monkeypatch):
    monkeypatch.setenv("TQGEN_CACHE_DIR", str(tmp_path))
    text = cuda.cuda_text(default_variant(CombineProblem(128)), (128, 1, 1))
    short = cuda.by_reference(text)
    included = [line.split('"')[1] for line in (short.header, short.source)]
    assert [Path(path).read_text() for path in included] == [text.header, text.source]
    assert short.name == text.name


def test_a_damaged_file_is_written_anew(tmp_path, monkeypatch):
    monkeypatch.setenv("TQGEN_CACHE_DIR", str(tmp_path))
    text = cuda.cuda_text(default_variant(CombineProblem(128)), (128, 1, 1))
    cuda.by_reference(text)
    (tmp_path / "cuda" / f"{text.name}.body.h").write_text("half of it")
    cuda.by_reference(text)
    assert (tmp_path / "cuda" / f"{text.name}.body.h").read_text() == text.source


def test_without_a_cache_directory_mlx_gets_the_text_itself(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("TQGEN_CACHE_DIR", str(tmp_path / "file"))
    text = cuda.cuda_text(default_variant(CombineProblem(128)), (128, 1, 1))
    assert cuda.by_reference(text) == text
