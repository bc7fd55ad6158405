"""`tqgen generate, chat, serve, cache-prompt`: mlx_lm's own commands, our flags before theirs."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from inspect import Signature, signature
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any

import typer

from tqgen_kernels.quant.layered import LayeredScheme, scheme_of
from tqgen_kernels.quant.scheme import Scheme

AnyScheme = Scheme | LayeredScheme


def with_scheme(command: Callable[..., None]) -> Callable[..., None]:
    """A command's function of (context, scheme, ...), with the flags of `choose` for the scheme."""
    own = list(signature(command, eval_str=True).parameters.values())
    flags = list(signature(choose, eval_str=True).parameters.values())

    @wraps(command)
    def call(context: typer.Context, **given: Any) -> None:
        scheme = choose(**{flag.name: given.pop(flag.name) for flag in flags})
        command(context, scheme, **given)

    context, _, *rest = own
    call.__signature__ = Signature([context, *flags, *rest])  # type: ignore[attr-defined]
    return call


def choose(
    scheme: Annotated[
        str | None,
        typer.Option(help="near-lossless, balanced (default), small, tiny, or a scheme file."),
    ] = None,
    key_bits: Annotated[
        int | None, typer.Option(help="1 to 8; without --value-bits values stay fp16.")
    ] = None,
    value_bits: Annotated[
        int | None, typer.Option(help="1 to 8; without --key-bits keys stay fp16.")
    ] = None,
    residual: Annotated[
        int | None, typer.Option(help="Newest tokens, at least, that stay exact.")
    ] = None,
    sinks: Annotated[int | None, typer.Option(help="First tokens that stay exact.")] = None,
    centre: Annotated[
        bool, typer.Option(help="Pack keys without the vector that they have in common.")
    ] = True,
    guard: Annotated[
        str | None,
        typer.Option(help="A layer that its scheme would break: on (mend it), warn or off."),
    ] = None,
    value_threshold: Annotated[
        float | None,
        typer.Option(help="Softmax weight below which a tile's values need not be read."),
    ] = None,
) -> AnyScheme:
    """The scheme that the flags name. Raises ValueError for a contradiction, OSError for a file."""
    if scheme is not None and (key_bits, value_bits) != (None, None):
        raise ValueError("Give one of --scheme and --key-bits, --value-bits.")
    chosen = scheme_of(key_bits=key_bits, value_bits=value_bits, scheme=scheme)
    given = {
        "residual": residual,
        "sinks": sinks,
        "guard": guard,
        "value_threshold": value_threshold,
        "centre": None if centre else False,
    }
    return chosen.changed(**{name: value for name, value in given.items() if value is not None})


Fp16Layers = Annotated[int, typer.Option(min=0, help="Layers at either end that stay fp16.")]


@with_scheme
def generate(context: typer.Context, scheme: AnyScheme, fp16_layers: Fp16Layers = 0) -> None:
    """mlx_lm.generate with a compressed cache."""
    run("generate", context, scheme, fp16_layers)


@with_scheme
def chat(context: typer.Context, scheme: AnyScheme, fp16_layers: Fp16Layers = 0) -> None:
    """mlx_lm.chat with a compressed cache."""
    run("chat", context, scheme, fp16_layers)


@with_scheme
def cache_prompt(context: typer.Context, scheme: AnyScheme, fp16_layers: Fp16Layers = 0) -> None:
    """mlx_lm.cache_prompt, stored compressed."""
    run("cache_prompt", context, scheme, fp16_layers)


@with_scheme
def serve(
    context: typer.Context,
    scheme: AnyScheme,
    fp16_layers: Fp16Layers = 0,
    equal_answers: Annotated[
        bool,
        typer.Option(
            help="Reuse stored prompts block by block, so that each answer is that of the same "
            "request alone. Off: reuse more of them; answers differ within the scheme's error."
        ),
    ] = True,
) -> None:
    """mlx_lm.server with a compressed cache: batching and prompt reuse stay on, and the log and
    /health say what the stored prompts take and what they would take in the model's dtype."""

    def prepare(server: Any) -> None:
        from tqgen_kernels.serving import install, refusals

        refusals.refuse(server)
        install.show_savings(server)
        install.list_models_without_a_hub(server)
        install.refuse_a_port_in_use(server)
        # The layers of one rank may have nothing to seal where those of another have: ranks that
        # hold different layers would not agree on what to reuse.
        if equal_answers and "--pipeline" not in context.args:
            install.equal_answers(server)

    run("server", context, scheme, fp16_layers, prepare=prepare)


def run(
    module: str,
    context: typer.Context,
    scheme: AnyScheme,
    fp16_layers: int,
    prepare: Callable[[Any], None] = lambda module: None,
) -> None:
    """Calls mlx_lm.<module>.main with the remaining arguments, every model that it loads making
    compressed caches. `prepare` gets the module first. Raises ValueError for --kv-bits, and for a
    model's path that leads nowhere."""
    arguments = list(context.args)
    if any(a == "--kv-bits" or a.startswith("--kv-bits=") for a in arguments):
        raise ValueError(
            "--kv-bits is mlx_lm's own quantisation: give --key-bits and --value-bits, or --scheme."
        )
    for flag in ("--model", "--draft-model"):
        _check_path(flag, _value(arguments, flag))
    if {"-h", "--help"} & set(arguments):
        typer.echo(context.get_help())
        typer.echo(f"\nThe flags of mlx_lm's own command are passed on ({module}):\n")
    from tqgen_kernels.cache.attention import apply_patch

    apply_patch()
    command = importlib.import_module(f"mlx_lm.{module}")
    _use_our_files(command)
    prepare(command)
    size = _value(arguments, "--max-kv-size") or ""
    max_kv_size = int(size) if size.isdigit() else None
    argv = [f"tqgen {context.info_name}", *arguments]
    with _compressed_models(scheme, fp16_layers, max_kv_size), _argv(argv):
        command.main()


def _use_our_files(module: Any) -> None:
    """A prompt cache that mlx_lm's command writes is whole or not there; one that cannot be read
    is an error that names the file."""
    from tqgen_kernels.cache import prompt_file

    for name in ("save_prompt_cache", "load_prompt_cache"):
        if hasattr(module, name):
            setattr(module, name, getattr(prompt_file, name))


def _value(arguments: list[str], name: str) -> str | None:
    """What a flag of mlx_lm's is given, the last time."""
    values = [a.partition("=")[2] for a in arguments if a.startswith(f"{name}=")]
    values += [value for flag, value in pairwise(arguments) if flag == name]
    return values[-1] if values else None


def _check_path(flag: str, model: str | None) -> None:
    """ValueError for what can only be a path, and is none. A hub would say that it is no name."""
    if model and model.startswith(("/", ".", "~")) and not Path(model).exists():
        raise ValueError(
            f"There is no {model}: give {flag} a folder with a model, or a name of the hub as in "
            "mlx-community/Qwen2.5-7B-Instruct-4bit."
        )


@contextmanager
def _compressed_models(
    scheme: AnyScheme, fp16_layers: int, max_kv_size: int | None
) -> Iterator[None]:
    """mlx_lm looks load_model up when it loads: every model that comes from it makes our caches."""
    from mlx_lm import utils

    from tqgen_kernels.cache.prompt import attach

    load_model = utils.load_model

    def load(*args: Any, **kwargs: Any) -> Any:
        model, config = load_model(*args, **kwargs)
        if max_kv_size is not None and hasattr(model, "make_cache"):
            # mlx_lm's own rule; it says nothing.
            typer.echo(
                "notice: this model makes its own caches, and --max-kv-size has no effect", err=True
            )
        attach(model, max_kv_size, scheme=scheme, fp16_layers=fp16_layers)
        return model, config

    utils.load_model = load
    try:
        yield
    finally:
        utils.load_model = load_model


@contextmanager
def _argv(argv: list[str]) -> Iterator[None]:
    before, sys.argv = sys.argv, argv
    try:
        yield
    finally:
        sys.argv = before
