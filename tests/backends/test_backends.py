from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest

from tqgen_kernels import backends
from tqgen_kernels.codegen.families import FAMILIES
from tqgen_kernels.codegen.problem import CombineProblem, EncodeProblem
from tqgen_kernels.codegen.space import candidates
from tqgen_kernels.codegen.variant import Config
from tqgen_kernels.emulator.signature import InputSpec, metal_source
from tqgen_kernels.execution import registry
from tqgen_kernels.tuning.search.runner import InvalidVariant


def test_there_is_no_gpu_backend_on_a_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TQGEN_BACKEND", raising=False)
    if not mx.metal.is_available() and not mx.cuda.is_available():
        assert backends.default_name() == "portable"


def test_the_environment_names_the_backend(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TQGEN_BACKEND", "emulated")
    assert backends.default_name() == "emulated"
    monkeypatch.setenv("TQGEN_BACKEND", "vulkan")
    with pytest.raises(ValueError, match="metal, cuda, emulated, portable"):
        backends.default_name()


def test_an_unknown_backend_is_refused() -> None:
    with pytest.raises(ValueError, match="metal, cuda, emulated"):
        backends.load("vulkan")


def test_mlx_prints_the_text_that_we_expect_of_our_variants() -> None:
    """The export oracle: MLX's own text of a call, against the emulator's rules."""
    problem = EncodeProblem(64, 3, kv_heads=2)
    family = FAMILIES["encode"]
    variant = registry.compile(problem, family.default(problem), "emulated").variant
    kernel = mx.fast.metal_kernel(
        name=variant.name,
        input_names=list(variant.input_names),
        output_names=list(variant.output_names),
        source=variant.source,
        header=variant.header,
    )
    example = family.example(problem, np.random.default_rng(0), 64)
    shapes = {name: array.shape for name, array in example.inputs.items()}
    launch = family.launch(problem, variant.config, shapes, example.scalars)
    arrays = [mx.array(example.inputs[name]) for name in variant.input_names]
    seen: list[str] = []

    def call(*inputs: mx.array) -> list[mx.array]:
        return kernel(  # type: ignore[no-any-return]
            inputs=list(inputs),
            grid=launch.grid,
            threadgroup=launch.threadgroup,
            output_shapes=launch.output_shapes,
            output_dtypes=[getattr(mx, dtype) for dtype in launch.output_dtypes],
        )

    def collect(node: dict[str, object]) -> None:
        if node.get("name") == "CustomKernel":
            seen.append(str(node["arguments"][1]))  # type: ignore[index]

    mx.export_function(collect, call, *arrays)
    ours = metal_source(
        name=variant.name,
        input_names=variant.input_names,
        output_names=variant.output_names,
        source=variant.source,
        header=variant.header,
        atomic_outputs=False,
        inputs=[InputSpec(str(a.dtype).split(".")[-1], a.shape, ()) for a in arrays],
        output_dtypes=launch.output_dtypes,
    )
    assert seen == [ours.text]


def test_a_process_builds_a_text_once() -> None:
    problem = EncodeProblem(64, 3, kv_heads=2)
    larger = EncodeProblem(64, 3, kv_heads=4, batch=2)
    config = FAMILIES["encode"].default(problem)
    first, second = (registry.compile(p, config, "emulated") for p in (problem, larger))
    assert first.launcher is second.launcher


def test_a_config_outside_the_space_is_typed_invalid() -> None:
    with pytest.raises(InvalidVariant) as caught:
        registry.compile(EncodeProblem(64, 3), Config.of(threads="warp", at_once=1), "emulated")
    assert caught.value.kind == "constraints"


def test_a_wrong_kernel_is_found_and_the_default_runs_instead(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The chosen variant fails verification: one warning, then the declared default."""
    from tqgen_kernels.tuning.database.select import Choice

    monkeypatch.setenv("TQGEN_BACKEND", "emulated")
    problem = CombineProblem(64, heads=3)
    default = FAMILIES["combine"].default(problem)
    other = next(c for c in candidates(FAMILIES["combine"], problem) if c != default)
    monkeypatch.setattr(registry, "choose", lambda p, b: Choice(other, "exact record", "test"))
    genuine = registry.verify

    def verify(compiled: registry.Compiled, *args: int) -> None:
        if compiled.variant.config == other:
            raise InvalidVariant("correctness", "made up")
        genuine(compiled, *args)

    monkeypatch.setattr(registry, "verify", verify)
    monkeypatch.setattr(registry, "_verified", set())
    registry.forget()
    with pytest.warns(registry.KernelWarning, match="made up"):
        found = registry.kernel(problem)
    assert found.compiled is not None
    assert found.compiled.variant.config == default
    assert found.choice.origin == "default"
    registry.forget()


def test_autotune_modes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TQGEN_CACHE_DIR", str(tmp_path))
    problem = CombineProblem(64, heads=11, context=1024)
    assert registry.choose(problem, "emulated").origin == "default"
    monkeypatch.setenv("TQGEN_AUTOTUNE", "missing")
    monkeypatch.setattr(registry, "MISSING_SECONDS", 2.0)
    assert registry.choose(problem, "emulated").origin == "exact record"
    monkeypatch.setenv("TQGEN_AUTOTUNE", "load")
    assert registry.choose(problem, "emulated").origin == "exact record"
    monkeypatch.setenv("TQGEN_AUTOTUNE", "off")
    assert registry.choose(problem, "emulated").origin == "default"
    monkeypatch.setenv("TQGEN_AUTOTUNE", "always")
    with pytest.raises(ValueError, match="load, off, missing"):
        registry.choose(problem, "emulated")


def test_a_text_is_verified_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Crossing a context bucket in the middle of decoding costs a look-up, not a verification."""
    monkeypatch.setenv("TQGEN_BACKEND", "emulated")
    verified: list[str] = []
    monkeypatch.setattr(registry, "verify", lambda compiled: verified.append(compiled.variant.name))
    monkeypatch.setattr(registry, "_verified", set())
    registry.forget()
    found = [registry.kernel(CombineProblem(64, heads=7, context=c)) for c in (1024, 4096, 16384)]
    assert len(verified) == 1
    assert len({kernel.compiled.launcher for kernel in found if kernel.compiled}) == 1
    registry.forget()


def test_without_a_working_variant_the_portable_path_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TQGEN_BACKEND", "emulated")

    def refuse(compiled: registry.Compiled, *args: int) -> None:
        raise InvalidVariant("launch", "too many threads")

    monkeypatch.setattr(registry, "verify", refuse)
    monkeypatch.setattr(registry, "_verified", set())
    registry.forget()
    with pytest.warns(registry.KernelWarning, match="too many threads"):
        found = registry.kernel(CombineProblem(64, heads=5))
    assert found.compiled is None
    assert found.choice.road == "mlx"
    registry.forget()
