"""`tqgen`: the table of commands, each imported only when it is called."""

from __future__ import annotations

import importlib
import os
import sys
import warnings
from dataclasses import dataclass
from importlib.metadata import version
from typing import TextIO

import typer

_python_showwarning = warnings.showwarning

DEBUG_VARIABLE = "TQGEN_DEBUG"
PASS_ON = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}


@dataclass(frozen=True)
class Command:
    """Module and function of the package `tqgen_kernels.cli` are called after the command; the
    module of those that wrap a command of mlx_lm is `mlx_command`.

    name: as typed; a hyphen is an underscore in Python.
    panel: the heading under which `tqgen --help` lists it.
    passes_on: the function takes a typer.Context and reads the flags that typer does not know,
        --help among them, from its `args`: those of the mlx_lm command that it wraps.
    attribute: a function with typer's annotations, or a `typer.Typer`, where it has another name.
    """

    name: str
    help: str
    panel: str
    passes_on: bool = False
    attribute: str | None = None


MODELS, TUNING, KERNELS = "Models", "Tuning", "Kernels"

COMMANDS = (
    Command("demo", "A real model, compressed and not, side by side.", MODELS),
    Command("generate", "mlx_lm.generate with a compressed cache.", MODELS, True),
    Command("chat", "mlx_lm.chat with a compressed cache.", MODELS, True),
    Command("serve", "mlx_lm.server with a compressed cache.", MODELS, True),
    Command("cache-prompt", "mlx_lm.cache_prompt, stored compressed.", MODELS, True),
    Command("eval", "What a scheme costs in the model's answers.", MODELS, False, "evaluate"),
    Command("calibrate", "Bits for each layer of a model, within a budget.", MODELS),
    Command("bench", "Speed and memory of a model under several caches.", MODELS),
    Command("autotune", "Find the fastest verified variants on this device.", TUNING),
    Command("db", "Show, explain, export, import, prune tuning records.", TUNING, False, "app"),
    Command("report", "One HTML page on what was tuned.", TUNING),
    Command("variants", "List the candidates of a kernel problem.", TUNING),
    Command("check", "Check a Metal kernel of your own: static check, then a run.", KERNELS),
    Command("verify", "Every kernel variant against the float64 reference.", KERNELS),
    Command("emit", "Write generated/ from the templates, or check it.", KERNELS),
    Command("doctor", "What works on this machine, what to do about the rest.", KERNELS),
)

app = typer.Typer(
    name="tqgen",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"tqgen {version('tqgen-kernels')}")
        raise typer.Exit


@app.callback()
def _options(
    version: bool = typer.Option(
        False, "--version", callback=_print_version, is_eager=True, help="Print the version."
    ),
) -> None:
    """A TurboQuant KV cache for MLX: run models with it, tune and check its kernels."""


def load(command: Command) -> typer.Typer:
    """Imports the command's module and returns it as an app of its own."""
    name = command.name.replace("-", "_")
    file = "mlx_command" if command.passes_on else name
    module = importlib.import_module(f"tqgen_kernels.cli.{file}")
    target = getattr(module, command.attribute or name)
    if isinstance(target, typer.Typer):
        return target
    own = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    own.command(context_settings=PASS_ON if command.passes_on else {})(target)
    return own


def run(command: Command, arguments: list[str]) -> None:
    """Runs one command. An error that carries a message for the user prints as that and exits 2.

    Warnings of ours are one line, too.
    """
    if command.panel == MODELS:
        from tqgen_kernels import cpu_blas

        cpu_blas.lend()  # before anything imports MLX; on a GPU it does nothing
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _show_warning
            load(command)(args=arguments, prog_name=f"tqgen {command.name}")
    except (ValueError, RuntimeError, OSError, ImportError) as error:
        if os.environ.get(DEBUG_VARIABLE):
            raise
        typer.echo(f"error: {explanation(error)}", err=True)
        sys.exit(2)


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    if category.__module__.startswith("tqgen_kernels."):
        typer.echo(f"warning: {message}", err=True)
    else:
        _python_showwarning(message, category, filename, lineno, file, line)


def explanation(error: Exception) -> str:
    """What the user should read: the error's own words, and its kind where it has none."""
    if isinstance(error, ImportError) and (error.name or "").partition(".")[0] == "mlx":
        return (
            f"MLX cannot be imported ({error}). On Linux install exactly one of "
            "'tqgen-kernels[cpu]' and 'tqgen-kernels[cuda]'; on macOS 'tqgen-kernels' brings it."
        )
    return str(error).strip() or type(error).__name__


def _register(command: Command) -> None:
    @app.command(
        command.name, rich_help_panel=command.panel, context_settings=PASS_ON, help=command.help
    )
    def call(context: typer.Context) -> None:
        run(command, context.args)


for _command in COMMANDS:
    _register(_command)
