"""Measure several caches on one model and one text, unit by unit; what was measured is reused."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

from .agreement import Agreement, Greedy, agreement, greedy_forced, greedy_tokens
from .contenders import Contender, cache_bytes, plain_cache, why_not
from .load import LoadedModel
from .passkey import Passkey, passkey
from .teacher import Progress, Steps, windows
from .units import Say, read_unit, unit_path, write_unit


@dataclass(frozen=True)
class Plan:
    """What to measure. passkey_depths may be empty and greedy_tokens 0: not measured."""

    steps: Steps
    windows: int
    greedy_tokens: int
    passkey_depths: tuple[float, ...]


@dataclass
class Measured:
    """All units of one contender; `refused` says why it could not run at all.

    stored_bits: bits per value with all that is allocated, in float16, at the window's length.
    """

    contender: Contender
    refused: str | None = None
    stored_bits: float | None = None
    forced: list[Agreement] = field(default_factory=list)
    greedy: Greedy | None = None
    passkeys: list[Passkey] = field(default_factory=list)


@dataclass(frozen=True)
class Evaluation:
    """A model, a text (tokens and a hash of them), a plan and a folder for the units."""

    loaded: LoadedModel
    tokens: Sequence[int]
    plan: Plan
    folder: Path
    say: Say
    progress: Progress

    def path(self, contender: Contender, **what: Any) -> Path:
        description = {
            "model": self.loaded.name,
            "fingerprint": self.loaded.fingerprint,
            "text": hashlib.sha256(repr(list(self.tokens)).encode()).hexdigest(),
            "steps": asdict(self.plan.steps),
            "windows": self.plan.windows,
            "cache": contender.spec,
            "versions": [version(name) for name in ("mlx", "mlx-lm")],
            **what,
        }
        return unit_path(self.folder, description)


def evaluate(evaluation: Evaluation, contenders: Sequence[Contender]) -> list[Measured]:
    """Measure every contender; returns them in the given order. Raises ValueError on short text."""
    loaded = evaluation.loaded
    measured = [Measured(contender) for contender in contenders]
    for each in measured:
        each.refused = why_not(each.contender, loaded.model)
        if each.refused is not None:
            evaluation.say(f"{each.contender.name}: cannot run on this model: {each.refused}")
            continue
        length = evaluation.plan.steps.length
        stored = cache_bytes(each.contender.factory, loaded.model, loaded.kv_shapes, length)
        values = length * sum(heads * (k + v) for heads, k, v in loaded.kv_shapes)
        each.stored_bits = stored * 8 / values
    running = [each for each in measured if each.refused is None]
    _forced(evaluation, running)
    _greedy(evaluation, running)
    _passkeys(evaluation, running)
    return measured


def _forced(evaluation: Evaluation, running: Sequence[Measured]) -> None:
    plan = evaluation.plan
    for index, window in enumerate(windows(evaluation.tokens, plan.steps, plan.windows)):
        paths = {
            each.contender.name: evaluation.path(each.contender, kind="forced", window=index)
            for each in running
        }
        known = {name: read_unit(path, Agreement, evaluation.say) for name, path in paths.items()}
        missing = {
            each.contender.name: each.contender.factory
            for each in running
            if known[each.contender.name] is None
        }

        def progress(_: str, done: int, total: int, index: int = index) -> None:
            evaluation.progress("windows", index * total + done, plan.windows * total)

        if missing:
            found = agreement(
                evaluation.loaded.model, window, plain_cache, missing, plan.steps, progress
            )
            for name, unit in found.items():
                write_unit(paths[name], unit)
                known[name] = unit
        for each in running:
            each.forced += [unit for unit in [known[each.contender.name]] if unit is not None]
        progress("", plan.steps.length, plan.steps.length)


def _greedy(evaluation: Evaluation, running: Sequence[Measured]) -> None:
    count = evaluation.plan.greedy_tokens
    if count == 0:
        return
    model = evaluation.loaded.model
    prompt = greedy_prompt(evaluation)
    reference: list[int] | None = None  # the continuation of fp16, which comes first
    for index, each in enumerate(running):
        evaluation.progress("greedy", index, len(running))
        path = evaluation.path(each.contender, kind="greedy", count=count, prompt=prompt)
        each.greedy = read_unit(path, Greedy, evaluation.say)
        if each.greedy is None:
            factory = each.contender.factory
            free = greedy_tokens(model, prompt, factory, count, _no_progress)
            forced = greedy_forced(model, prompt, reference or free, factory)
            each.greedy = Greedy(free, forced)
            write_unit(path, each.greedy)
        reference = reference or each.greedy.free
    evaluation.progress("greedy", len(running), len(running))


def greedy_prompt(evaluation: Evaluation) -> list[int]:
    """Half a window of the text, as a chat turn that asks to explain it if the model chats."""
    tokens = list(evaluation.tokens[: evaluation.plan.steps.length // 2])
    tokenizer = evaluation.loaded.tokenizer
    if not getattr(tokenizer, "has_chat_template", False):
        return tokens
    text = f"Explain the following text in your own words.\n\n{tokenizer.decode(tokens)}"
    prompt: list[int] = tokenizer.apply_chat_template(
        [{"role": "user", "content": text}], add_generation_prompt=True, return_dict=False
    )
    return prompt


def _passkeys(evaluation: Evaluation, running: Sequence[Measured]) -> None:
    depths = evaluation.plan.passkey_depths
    for index, each in enumerate(running):
        for i, depth in enumerate(depths):
            done = index * len(depths) + i
            evaluation.progress("passkey", done, len(running) * len(depths))
            path = evaluation.path(each.contender, kind="passkey", depth=depth)
            unit = read_unit(path, Passkey, evaluation.say)
            if unit is None:
                unit = passkey(
                    evaluation.loaded.model,
                    evaluation.loaded.tokenizer,
                    evaluation.tokens,
                    each.contender.factory,
                    depth,
                    evaluation.plan.steps.length,
                    evaluation.plan.steps.prefill_step,
                )
                write_unit(path, unit)
            each.passkeys.append(unit)
    if depths:
        evaluation.progress("passkey", len(running) * len(depths), len(running) * len(depths))


def _no_progress(what: str, done: int, total: int) -> None:
    return None
