"""`tqgen emit`: write the default variant of each bundled problem, or check that none changed."""

from __future__ import annotations

import json
from math import prod
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tqgen_kernels.cli.options import Json

if TYPE_CHECKING:
    from tqgen_kernels.codegen.variant import Variant


def generated_files() -> dict[str, str]:
    """File name -> text of everything in generated/ that comes from the templates."""
    from tqgen_kernels.codegen.bundled import bundled_problems
    from tqgen_kernels.codegen.families import FAMILIES
    from tqgen_kernels.codegen.problem import family_of
    from tqgen_kernels.codegen.render import render

    files: dict[str, str] = {}
    manifest: dict[str, dict[str, object]] = {}
    for problem in bundled_problems():
        family = FAMILIES[family_of(problem)]
        variant = render(problem, family.default(problem))
        text, threadgroup = metal_text(variant)
        files[f"{variant.uri}.metal"] = text
        manifest[variant.uri] = {
            "name": variant.name,
            "source_sha256": variant.sha256,
            "threadgroup_memory": variant.threadgroup_memory,
            "threadgroup": list(threadgroup),
        }
    files["manifest.json"] = json.dumps(manifest, indent=1, sort_keys=True) + "\n"
    return files


def _row_major(shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(prod(shape[axis + 1 :]) for axis in range(len(shape)))


def metal_text(variant: Variant) -> tuple[str, tuple[int, int, int]]:
    """The whole Metal text of a variant, as MLX completes it, and its threadgroup."""
    import numpy as np

    from tqgen_kernels.codegen.families import FAMILIES
    from tqgen_kernels.codegen.problem import family_of, format_problem
    from tqgen_kernels.emulator.signature import InputSpec, metal_source

    family = FAMILIES[family_of(variant.problem)]
    example = family.example(variant.problem, np.random.default_rng(0), 128)
    arrays = example.inputs
    specs = [
        InputSpec(example.casts.get(name, str(array.dtype)), array.shape, _row_major(array.shape))
        for name, array in ((name, arrays[name]) for name in variant.input_names)
    ]
    shapes = {name: array.shape for name, array in arrays.items()}
    launch = family.launch(variant.problem, variant.config, shapes, example.scalars)
    generated = metal_source(
        name=variant.name,
        input_names=variant.input_names,
        output_names=variant.output_names,
        source=variant.source,
        header=variant.header,
        atomic_outputs=False,
        inputs=specs,
        output_dtypes=launch.output_dtypes,
    )
    comment = (
        f"// {format_problem(variant.problem)}\n// {variant.config}\n"
        "// Written by `tqgen emit` from templates/; edits here are lost.\n\n"
    )
    return comment + generated.text, launch.threadgroup


def emit(
    check: Annotated[
        bool, typer.Option("--check", help="Write nothing, fail on a change.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Write generated/ from the templates, or check that it is what they render."""
    from tqgen_kernels.codegen.paths import GENERATED
    from tqgen_kernels.files import write_atomically

    files = generated_files()
    present = {p.name: p for p in (*GENERATED.glob("*.metal"), *GENERATED.glob("manifest.json"))}
    stale = sorted(set(present) - set(files))
    changed = sorted(
        name
        for name, text in files.items()
        if name not in present or present[name].read_bytes() != text.encode()
    )
    if not check:
        for name in stale:
            present[name].unlink()
        for name in changed:
            write_atomically(GENERATED / name, files[name].encode())
    found = {"folder": str(GENERATED), "files": len(files), "changed": changed, "stale": stale}
    if as_json:
        typer.echo(json.dumps({**found, "written": not check}, indent=1))
    elif check:
        _print_check(found)
    else:
        typer.echo(f"{len(changed)} written, {len(stale)} removed, {len(files)} in {GENERATED}")
    if check and (changed or stale):
        raise typer.Exit(1)


def _print_check(found: dict[str, Any]) -> None:
    folder, wrong = found["folder"], [*found["changed"], *found["stale"]]
    for name in wrong:
        typer.echo(f"{folder}/{name} is not what templates/ renders")
    if wrong:
        typer.echo("Run `tqgen emit` and commit what it writes.")
    else:
        typer.echo(f"{found['files']} files in {folder} are what templates/ renders")
