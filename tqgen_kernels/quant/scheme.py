"""What a cache stores: bits, seed, and the tokens that stay exact."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

from tqgen_kernels.quant.codebook import CodebookKind, check_bits, check_pair

Guard = Literal["off", "warn", "on"]


def check_threshold(value: object) -> None:
    """Raises ValueError unless it can be a value threshold."""
    if type(value) is not float or not (value == 0.0 or 1e-30 <= value < 1.0):
        raise ValueError(
            f"value_threshold {value!r} is not supported: give a softmax weight from 1e-30 to "
            "below 1.0, or 0.0 for none."
        )


@dataclass(frozen=True)
class Scheme:
    """How keys and values are compressed.

    key_bits, value_bits: 1 to 8 bits a coordinate, or None to keep that side in fp16.
    seed: of the rotation; keys use `seed`, values `seed + 1`.
    residual: how many of the newest tokens, at least, stay exact (0 or more).
    sinks: how many of the first tokens stay exact (0 or more).
    norm_correction: store ||x|| / ||codebook[codes]|| as the scale, not ||x|| / sqrt(d).
    codebook: "lloyd-max" (the least distortion), "cubic" (within 0.2 % of it at 3 bits and 2 % at
        4, and decoded by arithmetic as well as by a table), "uniform" (8 % and 21 %, decoded in
        half as many operations), or "mixed": cubic keys, uniform values.
    centre: pack keys without the vector that they have in common (cache/centre.py), which attention
        does not see. Without sinks it is off: a sink's key lies far from all others.
    guard: what happens when the first tiles of a layer would change its attention beyond a bound
        (cache/guard.py): "on" keeps that layer's keys in 8 bits or exact, "warn" only says so.
    value_threshold: decode steps need not read the values of tokens whose softmax weight is below
        it (a tile of 32 is left out where all are); 0.0, the default, reads all. What is stored
        does not depend on it.
    Raises ValueError for anything else.
    """

    key_bits: int | None = 4
    value_bits: int | None = 3
    seed: int = 42
    residual: int = 64
    sinks: int = 4
    norm_correction: bool = True
    codebook: CodebookKind = "mixed"
    centre: bool = True
    guard: Guard = "on"
    value_threshold: float = 0.0

    def __post_init__(self) -> None:
        for name, bits in (("key_bits", self.key_bits), ("value_bits", self.value_bits)):
            if bits is not None:
                check_bits(bits, name)
        if type(self.seed) is not int or not 0 <= self.seed < 2**31 - 1:
            raise ValueError(f"seed {self.seed!r} is not supported: give one from 0 to 2**31 - 2.")
        for name, count, most in (("residual", self.residual, 4096), ("sinks", self.sinks, 1024)):
            if type(count) is not int or not 0 <= count <= most:
                raise ValueError(f"{name} {count!r} is not supported: give 0 to {most} tokens.")
        for name, flag in (("norm_correction", self.norm_correction), ("centre", self.centre)):
            if type(flag) is not bool:
                raise ValueError(f"{name} {flag!r}: give True or False.")
        check_pair(self.codebook)
        check_threshold(self.value_threshold)
        if self.guard not in get_args(Guard):
            raise ValueError(f"guard {self.guard!r} is unknown: use one of off, warn, on.")

    @property
    def key_seed(self) -> int:
        return self.seed

    @property
    def value_seed(self) -> int:
        return self.seed + 1

    def changed(self, **fields: Any) -> Scheme:
        """With these fields changed. Raises ValueError."""
        return replace(self, **fields)

    @classmethod
    def named(cls, name: str) -> Scheme:
        """One of SCHEMES by its name. Raises ValueError that lists the names."""
        if not isinstance(name, str) or name not in SCHEMES:
            raise ValueError(f"scheme {name!r} is unknown: choose one of {', '.join(SCHEMES)}.")
        return SCHEMES[name]

    @classmethod
    def of(
        cls,
        bits: int | None = None,
        *,
        key_bits: int | None = None,
        value_bits: int | None = None,
        scheme: Scheme | str | None = None,
        guard: Guard | None = None,
    ) -> Scheme:
        """A scheme from the three ways a caller may name one; nothing given is the default.

        bits sets both sides; key_bits / value_bits set one side each, and a side left None while
        the other is given stays in fp16; scheme is a Scheme or a name of SCHEMES. guard takes the
        place of the scheme's own.
        Raises ValueError for a mixture of the three ways.
        """
        given = (bits is not None) + (scheme is not None)
        given += key_bits is not None or value_bits is not None
        if given > 1:
            raise ValueError("Give one of bits=, key_bits= and value_bits=, or scheme=.")
        if scheme is not None:
            chosen = scheme if isinstance(scheme, Scheme) else cls.named(scheme)
        elif bits is not None:
            chosen = cls(key_bits=bits, value_bits=bits)
        else:
            chosen = cls(key_bits=key_bits, value_bits=value_bits) if given else cls()
        return chosen if guard is None else replace(chosen, guard=guard)


# "balanced" is the default; "seed", for comparison, is TurboQuant with no measure of ours added.
SCHEMES = {
    "near-lossless": Scheme(key_bits=4, value_bits=4),
    "balanced": Scheme(key_bits=4, value_bits=3),
    "small": Scheme(key_bits=4, value_bits=2),
    "tiny": Scheme(key_bits=2, value_bits=2),
    "seed": Scheme(
        3,
        3,
        residual=0,
        sinks=0,
        norm_correction=False,
        codebook="lloyd-max",
        centre=False,
        guard="off",
    ),
}
