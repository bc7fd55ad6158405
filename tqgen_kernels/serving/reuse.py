"""Stored prompts that are taken up again only where that changes no answer."""

from __future__ import annotations

from typing import Any

from mlx_lm.models.cache import LRUPromptCache, can_trim_prompt_cache

from tqgen_kernels.serving.blocks import block_end, cut_back, leaves, stores


class Reused(list[Any]):
    """A prompt cache taken from the stored ones, and the tokens that it has read."""

    def __init__(self, cache: list[Any], tokens: list[int]) -> None:
        super().__init__(cache)
        self.tokens = tokens


class SealedPromptCache(LRUPromptCache):
    """mlx-lm's cache of prompts, which keeps of each what was sealed, block by block.

    What follows the last sealed block, the answer above all, is computed again when it is part of
    the next prompt. `held_bytes` and `plain_bytes`: what the stored prompts take, and what they
    would take in the model's dtype; safe to read from another thread.
    """

    held_bytes = plain_bytes = 0

    def insert_cache(
        self,
        model: Any,
        tokens: list[int],
        prompt_cache: list[Any],
        *,
        cache_type: str = "assistant",
    ) -> None:
        """Store the sealed part of a prompt cache, which is trimmed to it; nothing if there is
        none, or if a layer cannot be trimmed to it."""
        length = min((store.sealed for store in stores(prompt_cache)), default=len(tokens))
        if length < len(tokens):
            if not length or not can_trim_prompt_cache(prompt_cache):
                return
            cut_back(prompt_cache, length)
        super().insert_cache(model, tokens[:length], prompt_cache, cache_type=cache_type)
        count_bytes(self)

    def fetch_nearest_cache(
        self, model: Any, tokens: list[int]
    ) -> tuple[list[Any] | None, list[int]]:
        """The longest stored start of `tokens` that ends with a block, and the tokens after it,
        at least one."""
        but_last: list[Any] = [*tokens[:-1], None]  # the last token is never found
        cache, rest = super().fetch_nearest_cache(model, but_last)
        if cache is None:
            return None, tokens
        length = len(tokens) - len(rest)
        sinks = [store.scheme.sinks for store in stores(cache)]
        if sinks and (end := block_end(length, sinks[0])) < length:
            if not end:
                return None, tokens
            cut_back(cache, end)
            length = end
        return Reused(cache, tokens[:length]), tokens[length:]


def count_bytes(prompts: Any) -> None:
    """Set `held_bytes` and `plain_bytes` of an LRUPromptCache."""
    keys = [key for lru in prompts._lru._lrus.values() for key in lru]
    layers = [layer for key in keys for layer in leaves(prompts._trie.get(*key).prompt_cache)]
    prompts.held_bytes = sum(layer.nbytes for layer in layers)
    prompts.plain_bytes = sum(getattr(layer, "plain_nbytes", layer.nbytes) for layer in layers)
