"""What the commands that wrap one of mlx_lm have in common: our flags, then mlx_lm's own."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from tqgen_kernels.quant.scheme import Scheme

SchemeName = Annotated[
    str | None, typer.Option("--scheme", help="near-lossless, balanced (default), small, tiny.")
]
KeyBits = Annotated[
    int | None, typer.Option("--key-bits", help="1 to 8; without --value-bits values stay fp16.")
]
ValueBits = Annotated[
    int | None, typer.Option("--value-bits", help="1 to 8; without --key-bits keys stay fp16.")
]
Fp16Layers = Annotated[
    int, typer.Option("--fp16-layers", min=0, help="Layers at either end that stay fp16.")
]
Residual = Annotated[
    int | None, typer.Option("--residual", help="Newest tokens, at least, that stay exact.")
]
Sinks = Annotated[int | None, typer.Option("--sinks", help="First tokens that stay exact.")]


def choose(
    scheme: str | None,
    key_bits: int | None,
    value_bits: int | None,
    residual: int | None,
    sinks: int | None,
) -> Scheme:
    """The scheme that the flags name. Raises ValueError for a contradiction."""
    from tqgen_kernels.quant.scheme import Scheme

    chosen = Scheme.of(key_bits=key_bits, value_bits=value_bits, scheme=scheme)
    return replace(
        chosen,
        residual=chosen.residual if residual is None else residual,
        sinks=chosen.sinks if sinks is None else sinks,
    )


def run(
    module: str,
    context: typer.Context,
    scheme: Scheme,
    fp16_layers: int,
    prepare: Callable[[Any], None] = lambda module: None,
) -> None:
    """Calls mlx_lm.<module>.main with the remaining arguments, every model that it loads making
    compressed caches. `prepare` gets the module first. Raises ValueError for --kv-bits."""
    arguments = list(context.args)
    if any(a == "--kv-bits" or a.startswith("--kv-bits=") for a in arguments):
        raise ValueError(
            "--kv-bits is mlx_lm's own quantisation: give --key-bits and --value-bits, or --scheme."
        )
    if {"-h", "--help"} & set(arguments):
        typer.echo(context.get_help())
        typer.echo(f"\nThe flags of mlx_lm's own command are passed on ({module}):\n")
    from tqgen_kernels.cache.attention import apply_patch

    apply_patch()
    command = importlib.import_module(f"mlx_lm.{module}")
    prepare(command)
    with _compressed_models(scheme, fp16_layers, _max_kv_size(arguments)), _argv(arguments):
        command.main()


def _max_kv_size(arguments: list[str]) -> int | None:
    """mlx_lm ignores its flag for a model that makes its own caches, as ours do then."""
    name = "--max-kv-size"
    values = [a.partition("=")[2] for a in arguments if a.startswith(f"{name}=")]
    values += [value for flag, value in pairwise(arguments) if flag == name]
    return int(values[-1]) if values and values[-1].isdigit() else None


@contextmanager
def _compressed_models(scheme: Scheme, fp16_layers: int, max_kv_size: int | None) -> Iterator[None]:
    """mlx_lm looks load_model up when it loads: every model that comes from it makes our caches."""
    from mlx_lm import utils

    from tqgen_kernels.cache.prompt import attach

    load_model = utils.load_model

    def load(*args: Any, **kwargs: Any) -> Any:
        model, config = load_model(*args, **kwargs)
        attach(model, max_kv_size, scheme=scheme, fp16_layers=fp16_layers)
        return model, config

    utils.load_model = load
    try:
        yield
    finally:
        utils.load_model = load_model


@contextmanager
def _argv(arguments: list[str]) -> Iterator[None]:
    argv = sys.argv
    sys.argv = [argv[0], *arguments]
    try:
        yield
    finally:
        sys.argv = argv
