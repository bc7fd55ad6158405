"""Prompt-cache files: written whole or not at all, and refused by name when they are damaged.

The format is mlx-lm's (safetensors); `cache/state.py` says what one of our caches puts into it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mlx_lm.models import cache as mlx_caches

from tqgen_kernels.cache.prompt import register
from tqgen_kernels.files import written_whole

SUFFIX = ".safetensors"  # MLX adds it to a name without


class PromptFileError(ValueError):
    """A file that holds no prompt cache, or one that cannot be written."""


def save_prompt_cache(
    file_name: str, cache: list[Any], metadata: dict[str, str] | None = None
) -> None:
    """mlx_lm.models.cache.save_prompt_cache, except that a process that is killed or a disk that
    is full leaves the file that was there before. Raises PromptFileError."""
    path = Path(file_name if file_name.endswith(SUFFIX) else file_name + SUFFIX)
    try:
        with written_whole(path) as temporary:
            written = temporary.with_name(temporary.name + SUFFIX)
            try:
                mlx_caches.save_prompt_cache(str(written), cache, metadata)
                written.replace(temporary)
            finally:
                written.unlink(missing_ok=True)
    except (OSError, RuntimeError) as error:  # the latter is MLX's
        raise PromptFileError(f"The prompt cache cannot be written to {path}: {error}") from error


def load_prompt_cache(file_name: str, return_metadata: bool = False) -> Any:
    """mlx_lm.models.cache.load_prompt_cache, except that every error names the file.

    Raises PromptFileError for one that is missing, cut off, changed or of another format.
    """
    register()
    if not Path(file_name).exists():
        raise PromptFileError(f"There is no {file_name}: `tqgen cache-prompt` makes one.")
    load: Any = mlx_caches.load_prompt_cache
    try:
        return load(file_name, return_metadata)
    except Exception as error:  # whatever MLX and mlx-lm run into in a file that is not theirs
        reason = str(error) if isinstance(error, ValueError | RuntimeError) else repr(error)
        raise PromptFileError(
            f"{file_name} cannot be read as a prompt cache: {reason.rstrip('.')}. "
            "`tqgen cache-prompt` makes one."
        ) from error
