"""The vector that the keys of one head have in common, which the packed keys leave out.

Softmax does not change when one vector is subtracted from every key, and in real models about half
of the energy of the keys lies in such a vector: without it the same bits code much less.
"""

from __future__ import annotations

import mlx.core as mx

HALF_RANGE = 32752.0  # of float16
CENTRE_TOKENS = 252  # with 4 sinks, tokens 4 to 255 of the sequence


def centre_of(keys: mx.array) -> mx.array:
    """The mean (B, H, 1, D) of the first tokens of keys (B, H, T, D), in their dtype.

    Tokens that are not finite do not count; where none is, the centre is zero. At most
    CENTRE_TOKENS tokens count: a vector known early serves as well as one known later. Nor is there
    a centre for a head whose keys fill more than half the range of float16: differences from it
    might not fit.
    """
    tokens = keys[:, :, :CENTRE_TOKENS].astype(mx.float32)
    finite = mx.isfinite(tokens).all(-1, keepdims=True)
    count = mx.maximum(finite.sum(2, keepdims=True), 1)
    # Divided first: the sum of large keys leaves float32.
    mean = mx.where(finite, tokens / count, 0.0).sum(2, keepdims=True)
    largest = mx.where(finite, mx.abs(tokens), 0.0).max((2, 3), keepdims=True)
    fits = largest < HALF_RANGE if keys.dtype == mx.float16 else mx.array(True)
    return mx.where(fits, mean, 0.0).astype(keys.dtype)
