"""Readable names: a variant's URI is an identifier, and a file name, and says what it is."""

from __future__ import annotations

from dataclasses import asdict

from tqgen_kernels.codegen.problem import Problem, family_of
from tqgen_kernels.codegen.variant import Config

_SHORT = {
    "head_dim": "d",
    "key_dim": "dk",
    "value_dim": "dv",
    "bits": "b",
    "key_bits": "kb",
    "value_bits": "vb",
    "gqa": "gqa",
    "q_len": "q",
    "heads_per_pass": "hpp",
    "simdgroups": "sg",
    "at_once": "x",
    "in_flight": "fl",
    "value_threshold": "vt",
}
_DTYPES = {"float32": "f32", "float16": "f16", "bfloat16": "bf16"}
# The text depends on neither the size of a problem nor on how many threadgroups share it.
_SIZES = ("kv_heads", "batch", "context", "heads", "queries")
_LAUNCH_ONLY = ("groups",)
_SAID_BY_LAYOUT = ("storage",)
# Named only where they differ.
_UNSAID = {
    "codebook": "lloyd-max",
    "sinks": False,
    "exact": False,
    "mask": "none",
    "fresh": False,
    "value_threshold": 0.0,
}


def _part(name: str, value: object) -> str:
    if isinstance(value, bool):
        return name if value else f"no_{name}"
    if isinstance(value, str):
        return _DTYPES.get(value, value.replace("-", "_"))
    if isinstance(value, float):
        value = repr(value).replace(".", "p").replace("-", "m")
    return f"{_SHORT.get(name, name)}{value}"


def uri(problem: Problem, config: Config) -> str:
    """tqgen_<family>_<problem>_<config>, an identifier of Metal and a file name."""
    unnamed = _SIZES + (_SAID_BY_LAYOUT if "layout" in config.mapping else ())
    fields = {k: v for k, v in asdict(problem).items() if k not in unnamed and _UNSAID.get(k) != v}
    tunables = {k: v for k, v in config.values if k not in _LAUNCH_ONLY}
    parts = [_part(name, value) for name, value in (fields | tunables).items()]
    return "_".join(["tqgen", family_of(problem), *parts])
