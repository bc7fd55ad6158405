"""mlx-lm's continuous batching, prompts cut at the ends of blocks and processed one by one."""

from __future__ import annotations

import copy
from itertools import accumulate
from typing import Any

from mlx_lm.generate import BatchGenerator, PromptProcessingBatch, _merge_caches

from tqgen_kernels.serving.blocks import block_end, pieces, read, stores


class SealedPrompts(PromptProcessingBatch):
    """Prompts in progress, each with a prompt cache of its own: no padding, and the very products
    that the prompt would have alone. They become one batch when they have been read."""

    def __init__(self, *args: Any, caches: list[list[Any]], **options: Any) -> None:
        super().__init__(*args, caches=[], **options)  # type: ignore[misc]
        self.rows = caches

    def extract_cache(self, idx: int) -> list[Any]:
        return copy.deepcopy(self.rows[idx])

    def extend(self, batch: Any) -> None:
        super().extend(batch)  # type: ignore[no-untyped-call]
        self.rows = self.rows + batch.rows

    def _copy(self) -> SealedPrompts:
        made: SealedPrompts = super()._copy()  # type: ignore[no-untyped-call]
        made.rows = self.rows
        return made

    def filter(self, keep: list[int]) -> None:
        super().filter(keep)
        self.rows = [self.rows[i] for i in keep]

    def prompt(self, tokens: list[list[int]]) -> None:
        """Process a part of each prompt, and seal where it ends a block."""
        for held, new, cache in zip(self.tokens, tokens, self.rows, strict=True):
            held += new
            read(self.model, new, cache, self.prefill_step_size)

    def generate(self, tokens: list[list[int]]) -> Any:
        """The batch that answers these prompts, each of which lacks its last token."""
        if any(len(token) != 1 for token in tokens):
            raise ValueError("Give the last token of each prompt alone.")
        self.prompt_cache, self.rows = _merge_caches(self.rows), []  # type: ignore[no-untyped-call]
        return super().generate(tokens)


class SealedBatchGenerator(BatchGenerator):
    """mlx-lm's BatchGenerator over SealedPrompts.

    A segment that is reported as ended ends with a block: the last one within the segment given.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._prompt_batch = SealedPrompts.empty(self.model, self.sampler, self.prefill_step_size)
        self._ends: dict[int, set[int]] = {}  # uid -> tokens processed when a segment ends

    def insert_segments(self, *args: Any, **options: Any) -> list[int]:
        uids: list[int] = super().insert_segments(*args, **options)
        for sequence in list(self._unprocessed_sequences)[-len(uids) :] if uids else ():
            uid, segments, _, cache, read_before, *_ = sequence
            self._cut(uid, segments, cache, len(read_before))
        return uids

    def _cut(self, uid: int, segments: list[list[int]], cache: list[Any], start: int) -> None:
        """Cut the segments of a prompt at the ends of blocks instead."""
        found = stores(cache)
        if not found:
            return
        sinks = found[0].scheme.sinks
        tokens = [token for segment in segments[:-1] for token in segment]
        ends = accumulate((len(segment) for segment in segments[:-1]), initial=start)
        self._ends[uid] = {block_end(end, sinks) - start for end in ends} - {0}
        lengths = pieces(start, start + len(tokens), sinks)
        stops = accumulate(lengths)
        segments[:-1] = [tokens[b - n : b] for n, b in zip(lengths, stops, strict=True)]

    def _make_batch(self, n: int) -> SealedPrompts:
        waiting = [self._unprocessed_sequences.popleft() for _ in range(n)]
        uids, segments, max_tokens, caches, tokens, samplers, processors, stops = (
            [sequence[field] for sequence in waiting] for field in range(8)
        )
        self._currently_processing += [[s, 0, sum(map(len, s))] for s in segments]
        return SealedPrompts(
            model=self.model,
            uids=uids,
            caches=caches,
            tokens=tokens,
            prefill_step_size=self.prefill_step_size,
            samplers=samplers,
            fallback_sampler=self.sampler,
            logits_processors=processors,
            stop_sequences=stops,
            max_tokens=max_tokens,
        )

    def _next(self) -> tuple[list[Any], list[Any]]:
        prompts, answers = super()._next()  # type: ignore[no-untyped-call]
        for response in prompts:
            ends = self._ends.get(response.uid)
            if response.end_of_prompt:
                self._ends.pop(response.uid, None)
            elif ends is not None:
                response.end_of_segment &= response.progress[0] in ends
        return prompts, answers

    def remove(self, uids: list[int], return_prompt_caches: bool = False) -> Any:
        for uid in uids:
            self._ends.pop(uid, None)
        return super().remove(uids, return_prompt_caches)  # type: ignore[no-untyped-call]

    @property
    def prompt_cache_nbytes(self) -> int:
        reading = (layer.nbytes for row in self._prompt_batch.rows for layer in row)
        return int(super().prompt_cache_nbytes + sum(reading))
