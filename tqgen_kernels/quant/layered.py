"""A scheme for each layer of a model, and the file that holds them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, Literal

import msgspec

from tqgen_kernels.quant.scheme import SCHEMES, Guard, Scheme

FORMAT: Final = "tqgen-scheme-1"
SUFFIX = ".json"


@dataclass(frozen=True)
class LayeredScheme:
    """Schemes of the layers that a model's cache compresses, in order.

    A layer whose key_bits and value_bits are both None keeps mlx-lm's own cache.
    """

    layers: tuple[Scheme, ...]

    def __post_init__(self) -> None:
        if not self.layers or not all(type(layer) is Scheme for layer in self.layers):
            raise ValueError("A LayeredScheme takes a tuple of Schemes, one a layer, at least one.")

    def changed(self, **fields: Any) -> LayeredScheme:
        """With these fields of Scheme changed in every layer. Raises ValueError."""
        return LayeredScheme(tuple(layer.changed(**fields) for layer in self.layers))


class SchemeFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a scheme file says: its format, the layers' schemes, and where they come from."""

    format: Literal["tqgen-scheme-1"]
    layers: list[dict[str, Any]]
    about: dict[str, Any] = {}


def scheme_of(
    bits: int | None = None,
    *,
    key_bits: int | None = None,
    value_bits: int | None = None,
    scheme: Scheme | LayeredScheme | str | Path | None = None,
    guard: Guard | None = None,
) -> Scheme | LayeredScheme:
    """As Scheme.of; scheme may also be a LayeredScheme or the path of a scheme file.

    A string is a path if it ends in .json. Raises ValueError and OSError.
    """
    if isinstance(scheme, str) and is_path(scheme):
        scheme = Path(scheme)
    if isinstance(scheme, Path):
        scheme = read_scheme(scheme)
    if isinstance(scheme, LayeredScheme):
        Scheme.of(bits, key_bits=key_bits, value_bits=value_bits, scheme=scheme.layers[0])
        return scheme if guard is None else scheme.changed(guard=guard)
    return Scheme.of(bits, key_bits=key_bits, value_bits=value_bits, scheme=scheme, guard=guard)


def is_path(name: str) -> bool:
    """Whether a scheme's name means a file."""
    return name not in SCHEMES and name.endswith(SUFFIX)


def distinct(scheme: Scheme | LayeredScheme) -> list[Scheme]:
    """The different schemes of all layers, in order."""
    return [scheme] if isinstance(scheme, Scheme) else list(dict.fromkeys(scheme.layers))


def for_layers(scheme: Scheme | LayeredScheme, count: int) -> Sequence[Scheme]:
    """One scheme for each of `count` layers. Raises ValueError if there are more or fewer."""
    if isinstance(scheme, Scheme):
        return [scheme] * count
    if len(scheme.layers) != count:
        raise ValueError(
            f"This scheme is for {len(scheme.layers)} layers, and the model has {count} to "
            "compress: `tqgen calibrate --model ...` makes one for this model."
        )
    return scheme.layers


def exact_ends(schemes: Sequence[Scheme], count: int) -> list[Scheme]:
    """The schemes with the first and last `count` layers kept in fp16."""
    middle = range(count, len(schemes) - count)
    exact = Scheme(key_bits=None, value_bits=None)
    return [scheme if i in middle else exact for i, scheme in enumerate(schemes)]


def read_scheme(path: Path) -> LayeredScheme:
    """The schemes in a file. Raises ValueError that says what is wrong with it, and OSError."""
    try:
        file = msgspec.json.decode(path.read_bytes(), type=SchemeFile)
        return LayeredScheme(tuple(Scheme(**layer) for layer in file.layers))
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f"There is no scheme file {path}: `tqgen calibrate --out {path}` writes one. "
            f"Schemes by name: {', '.join(SCHEMES)}."
        ) from error
    except (msgspec.MsgspecError, UnicodeDecodeError, ValueError, TypeError) as error:
        raise ValueError(
            f"{path} is no scheme file of the format {FORMAT}: {str(error).rstrip('.')}. "
            "`tqgen calibrate` writes one."
        ) from error


def write_scheme(path: Path, scheme: LayeredScheme, about: dict[str, Any]) -> None:
    """Write a scheme file, whole or not at all. about: JSON values. Raises OSError."""
    from tqgen_kernels.files import write_atomically

    file = SchemeFile(FORMAT, [asdict(layer) for layer in scheme.layers], about)
    write_atomically(path, msgspec.json.format(msgspec.json.encode(file), indent=1) + b"\n")
