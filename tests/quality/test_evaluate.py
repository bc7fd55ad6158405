from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tqgen_kernels.quality import evaluate as room
from tqgen_kernels.quality.contenders import Contender, contender
from tqgen_kernels.quality.evaluate import Evaluation, Measured, Plan, evaluate
from tqgen_kernels.quality.load import LoadedModel, ModelLoadError, load_model
from tqgen_kernels.quality.report import COLUMNS, as_json, markdown, plot, rows, tables
from tqgen_kernels.quality.teacher import Steps

PLAN = Plan(Steps(256, 192, 64, 32), windows=2, greedy_tokens=8, passkey_depths=(0.25, 0.75))


def silent(what: str, done: int, total: int) -> None:
    return None


@pytest.fixture(scope="module")
def loaded(folder: Path) -> LoadedModel:
    return load_model(str(folder))


def evaluation(loaded: LoadedModel, tokens: list[int], path: Path, said: list[str]) -> Evaluation:
    return Evaluation(loaded, tokens, PLAN, path / "units", said.append, silent)


def contenders(loaded: LoadedModel, *names: str) -> list[Contender]:
    return [contender(name, loaded.kv_shapes) for name in names]


def counting(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[Any]]:
    """Names of what is measured anew from now on."""
    calls: dict[str, list[Any]] = {"agreement": [], "greedy": [], "passkey": []}
    agreement, greedy, passkey = room.agreement, room.greedy_tokens, room.passkey

    def counted_agreement(model, window, reference, tested, *rest):  # type: ignore[no-untyped-def]
        calls["agreement"].append(sorted(tested))
        return agreement(model, window, reference, tested, *rest)

    def counted_greedy(*arguments: Any) -> list[int]:
        calls["greedy"].append(1)
        return greedy(*arguments)

    def counted_passkey(*arguments: Any) -> Any:
        calls["passkey"].append(1)
        return passkey(*arguments)

    monkeypatch.setattr(room, "agreement", counted_agreement)
    monkeypatch.setattr(room, "greedy_tokens", counted_greedy)
    monkeypatch.setattr(room, "passkey", counted_passkey)
    return calls


def test_measured_once_resumed_and_extended(
    loaded: LoadedModel, tokens: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    run = evaluation(loaded, tokens, tmp_path, said)
    first = rows(evaluate(run, contenders(loaded, "fp16", "mlx-4")))
    calls = counting(monkeypatch)
    assert rows(evaluate(run, contenders(loaded, "fp16", "mlx-4"))) == first
    assert not any(calls.values())
    more = rows(evaluate(run, contenders(loaded, "fp16", "mlx-4", "k3v3")))
    assert more[:2] == first
    assert calls == {"agreement": [["k3v3"]] * 2, "greedy": [1], "passkey": [1, 1]}
    assert said == []


def test_an_interrupted_run_keeps_what_is_done(
    loaded: LoadedModel, tokens: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(what: str, done: int, total: int) -> None:
        if what == "windows" and done > 300:  # in the second window
            raise KeyboardInterrupt

    run = evaluation(loaded, tokens, tmp_path, [])
    with pytest.raises(KeyboardInterrupt):
        evaluate(replace(run, progress=interrupt), contenders(loaded, "fp16", "mlx-8"))
    calls = counting(monkeypatch)
    evaluate(run, contenders(loaded, "fp16", "mlx-8"))
    assert calls["agreement"] == [["fp16", "mlx-8"]]


def test_a_damaged_unit_is_kept_aside_and_measured_again(
    loaded: LoadedModel, tokens: list[int], tmp_path: Path
) -> None:
    said: list[str] = []
    run = evaluation(loaded, tokens, tmp_path, said)
    fp16 = contenders(loaded, "fp16")
    first = rows(evaluate(run, fp16))
    for path in run.folder.iterdir():
        path.write_bytes(path.read_bytes()[:-9])
    count = len(list(run.folder.iterdir()))
    assert rows(evaluate(run, fp16)) == first
    assert len(said) == count == len(list(run.folder.glob("*.damaged*")))


def test_another_plan_or_text_has_units_of_its_own(
    loaded: LoadedModel, tokens: list[int], tmp_path: Path
) -> None:
    run = evaluation(loaded, tokens, tmp_path, [])
    fp16 = contenders(loaded, "fp16")[0]
    others = [
        replace(run, tokens=tokens[1:]),
        replace(run, plan=replace(PLAN, windows=1)),
        replace(run, plan=replace(PLAN, steps=Steps(256, 192, 64, 16))),
        replace(run, loaded=replace(loaded, fingerprint="of another model")),
    ]
    paths = {each.path(fp16, kind="forced", window=0) for each in [run, *others]}
    paths.add(run.path(replace(fp16, spec="the name stands for another"), kind="forced", window=0))
    assert len(paths) == 6


def test_rows_tables_json_and_plot(loaded: LoadedModel, tokens: list[int], tmp_path: Path) -> None:
    run = evaluation(loaded, tokens, tmp_path, [])
    broken = Contender("broken", lambda model: [], 2.0, "broken")
    made = rows(evaluate(run, [*contenders(loaded, "fp16", "mlx-8", "mlx-2", "k2v2"), broken]))
    fp16, fine, coarse, ours, refused = made
    assert (fp16.kl_mean, fp16.top1, fp16.perplexity_change) == (0.0, 100.0, 0.0)
    assert (fp16.greedy_equal, fp16.greedy_prefix, fp16.greedy_count) == (8, 8, 8)
    assert fp16.stored_bits == 16.0
    assert coarse.kl_mean is not None
    assert fine.kl_mean is not None
    assert coarse.kl_mean > 10 * fine.kl_mean > 0
    assert coarse.perplexity_change_error is not None
    assert coarse.perplexity_change_error > 0
    assert ours.compression == pytest.approx(16 / 2.25)
    assert ours.passkeys == 2
    assert refused.refused
    assert "cannot run" in markdown(made)
    assert markdown(made).count("\n") == 2 + len(made)
    assert [len(table.columns) for table in tables(made, "t", 200)] == [len(COLUMNS)]
    assert sum(len(table.columns) for table in tables(made, "t", 80)) == len(COLUMNS) + 1
    document = json.loads(as_json(made, run))
    assert document["rows"][2]["kl_mean"] == coarse.kl_mean
    assert document["plan"]["steps"]["decode_step"] == 32
    plot(made, tmp_path / "p.png", "title")
    assert (tmp_path / "p.png").read_bytes().startswith(b"\x89PNG")


def test_a_contender_without_units_of_some_kind(loaded: LoadedModel, tokens: list[int]) -> None:
    plan = replace(PLAN, windows=1, greedy_tokens=0, passkey_depths=())
    said: list[str] = []
    run = replace(evaluation(loaded, tokens, Path("nowhere"), said), plan=plan)
    measured = Measured(contenders(loaded, "fp16")[0])
    room._greedy(run, [measured])
    room._passkeys(run, [measured])
    assert measured.greedy is None
    assert measured.passkeys == []


def test_a_model_that_cannot_be_loaded(tmp_path: Path) -> None:
    with pytest.raises(ModelLoadError, match=r"config\.json"):
        load_model(str(tmp_path / "nothing here"))


def test_a_model_without_attention_is_named() -> None:
    from mlx_lm.models.mamba import Model, ModelArgs

    from tqgen_kernels.quality.load import kv_layout

    arguments = {"vocab_size": 16, "hidden_size": 16, "intermediate_size": 32, "state_size": 4}
    model = Model(
        ModelArgs(
            model_type="mamba",
            num_hidden_layers=1,
            conv_kernel=4,
            use_bias=False,
            use_conv_bias=True,
            time_step_rank=4,
            **arguments,
        )
    )
    with pytest.raises(ModelLoadError, match="no full-attention layer"):
        kv_layout(model, "tiny mamba")
