"""What quantising one side of one layer does to a model's answers.

The prompt of each window is processed once, exactly. For each layer, side and number of bits the
tokens after it are run again, with that side of that layer packed and all else exact.
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import mlx.core as mx

from tqgen_kernels.quant.scheme import Scheme

from .allocation import SIDES, Cost, SideName
from .contenders import plain_cache
from .load import LoadedModel
from .teacher import Progress, Steps, log_probabilities, windows
from .units import Say, read_unit, unit_path, write_unit

MEASURED_BITS = (2, 4)


@dataclass(frozen=True)
class Divergence:
    """Mean KL(exact || packed) over the scored positions of one window, nats."""

    kl: float


@dataclass(frozen=True)
class Calibration:
    """A model, a text (tokens), windows of it, the scheme whose bits are sought, and a folder
    where what was measured is found again; fresh: measure it again."""

    loaded: LoadedModel
    tokens: Sequence[int]
    steps: Steps
    windows: int
    scheme: Scheme
    folder: Path
    fresh: bool
    say: Say
    progress: Progress

    def path(self, **what: Any) -> Path:
        description = {
            "model": self.loaded.name,
            "fingerprint": self.loaded.fingerprint,
            "text": hashlib.sha256(repr(list(self.tokens)).encode()).hexdigest(),
            "steps": asdict(self.steps),
            "windows": self.windows,
            "scheme": repr(self.scheme),
            "versions": [version(name) for name in ("mlx", "mlx-lm")],
            **what,
        }
        return unit_path(self.folder, description)


def sensitivities(calibration: Calibration) -> list[Cost]:
    """The cost of each side of each layer that keeps plain keys and values, in order.

    Raises ValueError if the text is too short, or if the model has layers of another kind that
    would be compressed.
    """
    from tqgen_kernels import apply_patch

    apply_patch()
    layers = compressed_layers(calibration.loaded)
    texts = windows(calibration.tokens, calibration.steps, calibration.windows)
    found: dict[tuple[int, SideName, int], list[float]] = {}
    for index, text in enumerate(texts):
        measured = _window(calibration, layers, index, text)
        for what, kl in measured.items():
            found.setdefault(what, []).append(kl)
    shapes = calibration.loaded.kv_shapes
    return [
        Cost(
            place,
            side,
            shapes[place][0] * shapes[place][1 if side == "key" else 2],
            shapes[place][0],
            {bits: sum(found[place, side, bits]) / len(texts) for bits in MEASURED_BITS},
        )
        for place in range(len(layers))
        for side in SIDES
    ]


def compressed_layers(loaded: LoadedModel) -> list[int]:
    """Indices in the model's cache of the layers that would be compressed. Raises ValueError."""
    from mlx_lm.models.cache import KVCache

    from tqgen_kernels import make_prompt_cache

    plain = plain_cache(loaded.model)
    ours = make_prompt_cache(loaded.model)
    changed = [i for i, layer in enumerate(ours) if type(layer) is not type(plain[i])]
    if any(type(plain[i]) is not KVCache for i in changed):
        raise ValueError(
            f"{loaded.name} keeps several caches in a layer: calibration takes models with one "
            "KVCache a layer. Choose a scheme by name for it."
        )
    return changed


def _window(
    calibration: Calibration, layers: Sequence[int], index: int, text: Sequence[int]
) -> dict[tuple[int, SideName, int], float]:
    """KL by (place of the layer, side, bits) in one window."""
    model, steps = calibration.loaded.model, calibration.steps
    todo = [(p, side, bits) for p in range(len(layers)) for side in SIDES for bits in MEASURED_BITS]
    paths = {
        (place, side, bits): calibration.path(window=index, layer=place, side=side, bits=bits)
        for place, side, bits in todo
    }
    found: dict[tuple[int, SideName, int], float] = {}
    prompt: list[Any] = []
    expected: list[mx.array] = []
    for number, what in enumerate(todo):
        total = calibration.windows * len(todo)
        calibration.progress("sensitivity", index * len(todo) + number, total)
        unit = None
        if not calibration.fresh:
            unit = read_unit(paths[what], Divergence, calibration.say)
        if unit is None:
            if not prompt:
                prompt = _prompt(model, text, steps)
                expected = _answers(model, text, steps, copy.deepcopy(prompt))
            cache = _one_packed(prompt, layers[what[0]], calibration.scheme, what[1], what[2])
            unit = Divergence(_kl(expected, _answers(model, text, steps, cache)))
            write_unit(paths[what], unit)
        found[what] = unit.kl
    calibration.progress("sensitivity", (index + 1) * len(todo), calibration.windows * len(todo))
    return found


def _prompt(model: Any, text: Sequence[int], steps: Steps) -> list[Any]:
    """The model's own caches after the prompt."""
    cache = plain_cache(model)
    for start in range(0, steps.score_from, steps.prefill_step):
        stop = min(start + steps.prefill_step, steps.score_from)
        model(mx.array([list(text[start:stop])]), cache=cache)
        mx.eval([layer.state for layer in cache])
    return cache


def _one_packed(
    prompt: Sequence[Any], layer: int, scheme: Scheme, side: SideName, bits: int
) -> list[Any]:
    from tqgen_kernels import TurboQuantKVCache

    keys, values = (bits, None) if side == "key" else (None, bits)
    own = replace(scheme, key_bits=keys, value_bits=values, guard="off")
    cache = copy.deepcopy(list(prompt))
    cache[layer] = TurboQuantKVCache.from_kv_cache(prompt[layer], scheme=own)
    return cache


def _answers(model: Any, text: Sequence[int], steps: Steps, cache: list[Any]) -> list[mx.array]:
    """Log-probabilities (n, vocab) of each scored chunk."""
    chunks = []
    for start, stop in steps.chunks:
        if start >= steps.score_from:
            logits = model(mx.array([list(text[start:stop])]), cache=cache)
            chunks.append(log_probabilities(logits[0].astype(mx.float32)))
            mx.eval(chunks[-1])
    return chunks


def _kl(expected: Sequence[mx.array], found: Sequence[mx.array]) -> float:
    sums: list[Any] = [
        mx.sum(mx.exp(a) * (a - b)).item() for a, b in zip(expected, found, strict=True)
    ]
    return float(sum(sums)) / sum(chunk.shape[0] for chunk in expected)
