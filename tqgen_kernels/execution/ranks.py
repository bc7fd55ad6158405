"""The processes that share a model run the same variants: those that rank 0 would choose.

Communication happens once a process, in `agree`; choosing stays local.
"""

from __future__ import annotations

from threading import Lock
from typing import Any

import mlx.core as mx
import numpy as np

from tqgen_kernels.execution import kernels, registry
from tqgen_kernels.execution.storage import wanted_storage
from tqgen_kernels.tuning.database.snapshot import decode_snapshot, encode_snapshot

MAX_BYTES = 64 * 2**20
_lock = Lock()
_agreed: set[tuple[int, int]] = set()


def agree(group: mx.distributed.Group) -> None:
    """From now on this process chooses variants and storage by what rank 0 of `group` knows: its
    device, its tuning records, TQGEN_AUTOTUNE and TQGEN_STORAGE.

    A collective: every rank of the group must call it, and in the same place of its
    communication. Only the first call of a process for a group communicates. On-the-spot tuning
    (TQGEN_AUTOTUNE=missing) ends with it, since ranks would find different winners. A rank with
    another backend than rank 0 takes over the storage only.
    """
    key = (group.size(), group.rank())
    if group.size() == 1:
        return
    with _lock:
        if key in _agreed:
            return
        mine = encode_snapshot(registry.snapshot(wanted_storage()))
        registry.follow(decode_snapshot(_from_first(mine, group)))
        kernels.forget()
        _agreed.add(key)


def agree_on(model: Any) -> None:
    """`agree` for the group that `model` is sharded over; nothing for a model that is not."""
    group = group_of(model)
    if group is not None:
        agree(group)


def group_of(model: Any) -> mx.distributed.Group | None:
    """The processes that share a model: its sharded layers name them (tensor parallel), or its
    pipeline tells how many there are. None for a model of one process."""
    modules = getattr(model, "modules", None)
    if not callable(modules):
        return None
    for module in modules():
        group = getattr(module, "group", None)
        if isinstance(group, mx.distributed.Group) and group.size() > 1:
            return group
        stages = getattr(module, "pipeline_size", 1)
        if isinstance(stages, int) and stages > 1:
            group = mx.distributed.init()  # there already: the model was cut by it
            return group if group.size() == stages else None
    return None


def _from_first(data: bytes, group: mx.distributed.Group) -> bytes:
    """Rank 0's bytes, as sums of int32 to which the other ranks add zero."""
    first = group.rank() == 0
    length = mx.array([len(data) if first else 0])
    size = int(np.array(mx.distributed.all_sum(length, group=group))[0])
    if not 0 < size <= MAX_BYTES:
        raise RuntimeError(
            f"Rank 0 has {size} bytes of tuning records to share, at most {MAX_BYTES}: "
            "`tqgen db prune` removes what is of no use."
        )
    words = np.zeros(-(-size // 4), np.int32)
    if first:
        words.view(np.uint8)[:size] = np.frombuffer(data, np.uint8)
    total = np.array(mx.distributed.all_sum(mx.array(words), group=group), copy=False)
    return total.tobytes()[:size]
