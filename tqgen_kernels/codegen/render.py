"""Problem + config -> Variant: the only place where Metal text is made."""

from __future__ import annotations

import hashlib
import re
from functools import lru_cache
from typing import Any

import jinja2
import numpy as np

from tqgen_kernels.codegen.families import FAMILIES
from tqgen_kernels.codegen.paths import TEMPLATES
from tqgen_kernels.codegen.problem import Problem, family_of
from tqgen_kernels.codegen.space import check_config
from tqgen_kernels.codegen.uri import uri
from tqgen_kernels.codegen.variant import Config, Variant


def _float32(value: float) -> str:
    """The shortest decimal that reads back as the same float32."""
    text = str(np.float32(value))
    return f"{text}f" if "." in text or "e" in text else f"{text}.0f"


def _half2(value: float) -> str:
    """Twice the nearest half: by its bits, which every compiler knows at compile time."""
    return f"as_type<half2>(0x{int(np.float16(value).view(np.uint16)) * 0x10001:08x}u)"


@lru_cache(maxsize=1)
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,
    )
    environment.filters["float32"] = _float32
    environment.filters["half2"] = _half2
    environment.filters["hex32"] = lambda value: f"0x{value:07x}u"
    return environment


def _tidy(text: str) -> str:
    """At most one blank line in a row, none at the ends, no trailing spaces."""
    text = re.sub(r"[ \t]+$", "", text, flags=re.MULTILINE)
    return re.sub(r"\n{3,}", "\n\n", text).strip() + "\n"


def render(problem: Problem, config: Config) -> Variant:
    """The variant of `problem` that `config` names.

    Raises ValueError for a config outside the space or one that a restriction removes.
    """
    family = FAMILIES[family_of(problem)]
    check_config(family, problem, config)
    values: dict[str, Any] = {**config.mapping, **family.context(problem, config)}
    template = _environment().get_template(family.template.format(**values))
    header, source = (
        _tidy("".join(template.blocks[name](template.new_context(values))))
        for name in ("header", "body")
    )
    return Variant(
        problem=problem,
        config=config,
        uri=uri(problem, config),
        input_names=family.inputs + family.extra_inputs(problem),
        output_names=family.outputs + family.extra_outputs(problem),
        header=header,
        source=source,
        threadgroup_memory=family.threadgroup_memory(problem, config),
    )


@lru_cache(maxsize=16)
def template_hash(family: str) -> str:
    """sha256 of every template text that the family may include: part of a tuning record's key."""
    names = [n for n in sorted(_environment().list_templates()) if _belongs(n, family)]
    digest = hashlib.sha256()
    for name in names:
        digest.update(name.encode() + b"\0" + (TEMPLATES / name).read_bytes() + b"\0")
    return digest.hexdigest()


# Rooms of templates/ that a family reads beside `include` and the one of its own name.
_ROOMS = {
    "attend": ("scores",),
    "prefill": ("attend",),
    "qk_scores": ("scores",),
    "trellis_encode": ("trellis", "encode"),
    "trellis_dequantize": ("trellis", "dequantize"),
}


def _belongs(name: str, family: str) -> bool:
    room = name.split("/")[0]
    return room in (family, "include", *_ROOMS.get(family, ())) or "/" not in name
