import dataclasses
import re

import pytest

from tqgen_kernels.codegen.families import FAMILIES
from tqgen_kernels.codegen.problem import (
    AttendProblem,
    CombineProblem,
    DequantizeProblem,
    EncodeProblem,
    Problem,
    QKScoresProblem,
    TrellisDequantizeProblem,
    TrellisEncodeProblem,
    family_of,
)
from tqgen_kernels.codegen.render import render, template_hash
from tqgen_kernels.codegen.space import candidates
from tqgen_kernels.codegen.variant import Config, Variant

PROBLEMS: tuple[Problem, ...] = (
    EncodeProblem(128, 3, "key"),
    EncodeProblem(80, 4, "value", "bfloat16", norm_correction=False),
    DequantizeProblem(64, 2, "key"),
    DequantizeProblem(96, 5, "value", rotated=True),
    QKScoresProblem(80, 3, gqa=3),
    AttendProblem(128, 64, 4, 3, gqa=4),
    AttendProblem(80, 96, 5, 1, gqa=2, q_len=3),
    AttendProblem(128, 64, 4, 3, gqa=7, codebook="mixed", storage="fragment"),
    EncodeProblem(96, 3, "key_fragment", codebook="uniform"),
    DequantizeProblem(96, 5, "value_fragment", codebook="cubic"),
    CombineProblem(112),
    TrellisEncodeProblem(96, 4, "bfloat16"),
    TrellisDequantizeProblem(128, 2),
)


def variants(problem: Problem) -> list[Variant]:
    return [render(problem, c) for c in candidates(FAMILIES[family_of(problem)], problem)]


@pytest.mark.parametrize("problem", PROBLEMS, ids=str)
def test_every_candidate_renders_to_plain_metal(problem: Problem) -> None:
    for variant in variants(problem):
        text = variant.header + variant.source
        assert not re.search(r"\{\{|\{%|Undefined|None", text)
        assert not re.search(r"[ \t]$", text, re.MULTILINE)
        assert not re.search(r"\b(double|std::|goto|static)\b", text)
        assert re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", variant.name)
        # Pointers to threadgroup or device memory are spelled `auto`, but for casts of what is in
        # device memory: one text for every backend.
        assert not re.search(r"\bthreadgroup\s+\w+\s*\*|\bdevice\s+\w+\s*\*(?!\))", text)


@pytest.mark.parametrize("problem", PROBLEMS, ids=str)
def test_the_stated_threadgroup_memory_is_what_the_text_declares(problem: Problem) -> None:
    sizes = {"float": 4, "float4": 16, "uint": 4}
    for variant in variants(problem):
        constants = dict(re.findall(r"constexpr constant int (\w+) = (\d+);", variant.header))
        size = sizes | {"Codes": int(constants.get("STAGED", 0))}
        declared = re.findall(r"^\s*threadgroup (\w+) \w+\[([^\]]+)\];", variant.source, re.M)
        total = sum(
            size[kind] * int(eval(count, {}, _numbers(constants))) for kind, count in declared
        )
        assert total == variant.threadgroup_memory


def _numbers(constants: dict[str, str]) -> dict[str, int]:
    return {name: int(value) for name, value in constants.items()}


def test_two_texts_never_share_a_name() -> None:
    names: dict[str, str] = {}
    for problem in PROBLEMS:
        for variant in variants(problem):
            assert names.setdefault(variant.name, variant.sha256) == variant.sha256


def test_a_comment_changes_no_hash_and_code_does() -> None:
    problem = AttendProblem(128, 128, 3, 3, gqa=4)
    variant = render(problem, FAMILIES["attend"].default(problem))
    header, source = variant.header, variant.source
    said = dataclasses.replace(variant, source=f"// first\n\n{source}/* last\n */\n")
    laid_out = dataclasses.replace(
        variant, header=header.replace("\n", "  \n\n").replace("    ", "\t")
    )
    assert {said.name, laid_out.name} == {variant.name}
    assert "//" in source
    for other in (
        dataclasses.replace(variant, header=header.replace("float", "half", 1)),
        dataclasses.replace(variant, source=source + "x = 1;\n"),
        dataclasses.replace(variant, header=header + source, source=""),
    ):
        assert other.sha256 != variant.sha256


def test_the_text_does_not_depend_on_the_size() -> None:
    small = AttendProblem(128, 128, 3, 3, gqa=4)
    large = dataclasses.replace(small, kv_heads=2, batch=8, context=131072)
    config = FAMILIES["attend"].default(small)
    assert render(small, config).name == render(large, config).name


def test_rendering_is_deterministic_and_refuses_what_is_no_candidate() -> None:
    problem = EncodeProblem(128, 3)
    config = Config.of(lanes=1, at_once=32)
    assert render(problem, config) == render(problem, config)
    with pytest.raises(ValueError, match="no candidate"):
        render(problem, Config.of(lanes=1, at_once=8))


def test_the_template_hash_is_the_family_s_own() -> None:
    hashes = {family: template_hash(family) for family in FAMILIES}
    assert len(set(hashes.values())) == len(hashes)
    assert all(re.fullmatch(r"[0-9a-f]{64}", h) for h in hashes.values())
