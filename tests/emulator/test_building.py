"""Compilers are found in order, and compiled kernels are kept."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tqgen_kernels.emulator import MetalCompileError, build, cache, compiler
from tqgen_kernels.emulator.prelude import precompiled_prelude
from tqgen_kernels.emulator.rewrite import rewrite, threadgroup_variables
from tqgen_kernels.emulator.tokens import tokenize

LAUNCH = """
import mlx.core as mx
from tqgen_kernels import emulator
kernel = emulator.metal_kernel(
    name="cached", input_names=["x"], output_names=["out"],
    source="uint i = thread_position_in_grid.x; out[i] = simd_sum(x[i]);")
(out,) = kernel(inputs=[mx.ones((32,))], grid=(32, 1, 1), threadgroup=(32, 1, 1),
                output_shapes=[(32,)], output_dtypes=[mx.float32])
assert out[5].item() == 32
"""


def launch(folder: Path) -> None:
    environment = {**os.environ, "TQGEN_CACHE_DIR": str(folder)}
    subprocess.run([sys.executable, "-c", LAUNCH], env=environment, check=True)


def test_processes_share_a_fresh_cache(tmp_path: Path) -> None:
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(launch, [tmp_path] * 2))
    kept = sorted(path.name for path in tmp_path.rglob("*.so"))
    assert len(kept) == 2  # the runtime and the kernel
    times = [path.stat().st_mtime_ns for path in tmp_path.rglob("*.so")]
    launch(tmp_path)
    assert [path.stat().st_mtime_ns for path in tmp_path.rglob("*.so")] == times
    assert not list(tmp_path.rglob(".making-*"))


def test_a_file_that_fails_to_be_made_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TQGEN_CACHE_DIR", str(tmp_path))

    def fail(path: Path) -> None:
        path.write_text("half")
        raise MetalCompileError("no")

    with pytest.raises(MetalCompileError):
        cache.stored("ab12", ".so", fail)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_keys_differ_however_parts_are_cut() -> None:
    assert cache.digest("ab", "c") != cache.digest("a", "bc")


def test_without_a_compiler_the_message_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TQGEN_EMULATOR_COMPILER", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(compiler, "_bundled_zig", lambda: None)
    compiler._find.cache_clear()
    with pytest.raises(MetalCompileError, match=r"pip install 'tqgen-kernels\[emulator\]'"):
        compiler.find_compiler()
    compiler._find.cache_clear()


def test_an_explicit_compiler_comes_first(tmp_path: Path) -> None:
    old = tmp_path / "clang-14"
    old.write_text("#!/bin/sh\necho 'clang version 14.0.6'\n")
    new = tmp_path / "clang-18"
    new.write_text("#!/bin/sh\necho 'clang version 18.1.2'\n")
    for program in (old, new):
        program.chmod(0o755)
    with pytest.raises(MetalCompileError, match="clang-14"):
        compiler.find_compiler(str(old))
    assert compiler.find_compiler(str(new)).kind == "clang"


@pytest.mark.parametrize("target", ["aarch64-linux-gnu", "arm64-apple-macos13"])
def test_the_front_end_compiles_for_arm(target: str, tmp_path: Path) -> None:
    found = compiler.find_compiler()
    if found.kind == "gcc":
        pytest.skip("g++ compiles for this machine only")
    flags = [flag for flag in build.front_end_flags() if not flag.startswith("-march")]
    flags[flags.index("-target") + 1] = target
    prelude = precompiled_prelude(found, tuple(flags))
    text = "float4 f(half4 x, device float* p) { return float4(exp(x)) * simd_sum(p[0]); }"
    (tmp_path / "f.cl").write_text(rewrite(text))
    command = [*found.clang, *flags, "-include-pch", str(prelude), "-c", "f.cl", "-o", "f.o"]
    compiler.compile_or_raise(command, "f", tmp_path)
    assert (tmp_path / "f.o").stat().st_size > 0


def test_tokens_join_to_the_text() -> None:
    text = 'a[[b]] /* c\n */ "d\\"" 0x1.8p3f 1e-5h // e\n#define X \\\n  y->z::w << 2\n'
    assert "".join(token.text for token in tokenize(text)) == text


@pytest.mark.parametrize(
    ("metal", "expected"),
    [
        ("f(threadgroup float* x)", "f(threadgroup float* x)"),
        ("{ threadgroup float* p = q; }", "{ threadgroup float* p = q; }"),
        ("float4(1)\n[[buffer(0)]] x", "__tq_make<float4>(1)\n x"),
        ("metal::vec<T, 4>(1, 2)", "__tq_make<vec<T, 4>>(1, 2)"),
        ("static_cast<half>(x)", "__tq_make<half>(x)"),
        ("static_cast<device T*>(x)", "static_cast<device T*>(x)"),
        ("void f() const thread {", "void f() const  {"),
        ("0.5h 1bf 0x1h", "((half)0.5f) ((bfloat)1.0f) 0x1h"),
        ("#include <metal_stdlib>\nx", "\nx"),
    ],
)
def test_rewriting(metal: str, expected: str) -> None:
    assert rewrite(metal).strip() == expected.strip()


def test_threadgroup_variables_are_numbered_in_order() -> None:
    text = "void k() { threadgroup vec<float, 4> a[N][2], b;\nif (x) { threadgroup T c[4]; } }"
    assert threadgroup_variables(text) == ("a", "b", "c")
    assert rewrite(text).count("\n") == text.count("\n")
