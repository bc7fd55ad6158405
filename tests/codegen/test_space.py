import pytest

from tqgen_kernels.codegen.bundled import bundled_problems
from tqgen_kernels.codegen.families import FAMILIES
from tqgen_kernels.codegen.problem import AttendProblem, EncodeProblem, Problem, family_of
from tqgen_kernels.codegen.space import MAX_THREADGROUP_MEMORY, candidates, check_config, space
from tqgen_kernels.codegen.variant import Config
from tqgen_kernels.execution.verification import HEAD_DIMS, problems
from tqgen_kernels.quant.hadamard import supported_dims


@pytest.mark.parametrize("problem", bundled_problems(), ids=str)
def test_the_default_is_a_candidate_and_comes_first(problem: Problem) -> None:
    family = FAMILIES[family_of(problem)]
    default = family.default(problem)
    check_config(family, problem, default)
    found = candidates(family, problem)
    assert found[0] == default
    assert len(set(found)) == len(found)


@pytest.mark.parametrize("dim", supported_dims())
@pytest.mark.parametrize("gqa", [1, 7, 16])
def test_attend_has_a_default_for_every_head_dim(dim: int, gqa: int) -> None:
    family = FAMILIES["attend"]
    problem = AttendProblem(dim, dim, 8, 8, gqa=gqa, q_len=8)
    check_config(family, problem, family.default(problem))
    assert family.threadgroup_memory(problem, family.default(problem)) <= MAX_THREADGROUP_MEMORY


@pytest.mark.parametrize("dim", HEAD_DIMS)
def test_what_verify_runs_has_a_default(dim: int) -> None:
    for problem in problems(dim):
        family = FAMILIES[family_of(problem)]
        check_config(family, problem, family.default(problem))


def test_a_removed_candidate_names_its_restriction() -> None:
    problem = EncodeProblem(80, 3)
    reasons = {c.config: c.removed_by for c in space(FAMILIES["encode"], problem)}
    assert "power of two" in str(reasons[Config.of(lanes=8, at_once=32)])
    assert "less than a SIMD group" in str(reasons[Config.of(lanes=1, at_once=8)])
    assert reasons[Config.of(lanes=4, at_once=8)] is None


def test_too_much_threadgroup_memory_removes_a_candidate() -> None:
    problem = AttendProblem(512, 512, 3, 3, gqa=16)
    config = Config.of(layout="token", lookup="constant", rows=8, simdgroups=4, groups=512)
    reasons = {c.config: c.removed_by for c in space(FAMILIES["attend"], problem)}
    assert "bytes of threadgroup memory" in str(reasons[config])


@pytest.mark.parametrize(
    "config",
    [
        Config.of(lanes=8),
        Config.of(lanes=8, at_once=3),
        Config.of(lanes=8, at_once="32"),
        Config.of(lanes=True, at_once=32),
        Config.of(at_once=32, lanes=8),
        Config.of(road="mlx"),
    ],
    ids=str,
)
def test_a_config_outside_the_space_is_refused(config: Config) -> None:
    with pytest.raises(ValueError, match="tunables|use|candidate"):
        check_config(FAMILIES["encode"], EncodeProblem(128, 3), config)
