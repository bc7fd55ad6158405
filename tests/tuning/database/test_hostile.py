"""Files from anywhere: a message and the next fallback, never a crash, never a wrong choice."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.tuning.fake import ENVIRONMENT, FakeRunner, config
from tqgen_kernels.codegen.problem import DequantizeProblem, Problem
from tqgen_kernels.codegen.render import render
from tqgen_kernels.codegen.space import check_config
from tqgen_kernels.codegen.variant import Config
from tqgen_kernels.tuning.database.exchange import import_tuned
from tqgen_kernels.tuning.database.folder import Database
from tqgen_kernels.tuning.database.select import Choice, select
from tqgen_kernels.tuning.database.validate import validate
from tqgen_kernels.tuning.record.record import Damaged, OtherSchema, Record, decode, encode, seal
from tqgen_kernels.tuning.record.soundness import sound_record, unsound
from tqgen_kernels.tuning.search.runner import road_name
from tqgen_kernels.tuning.search.task import task_of
from tqgen_kernels.tuning.search.tuner import tune

PROBLEM = DequantizeProblem(64, 3)
KEY = ENVIRONMENT.device_key
MUTATIONS = 10_000

# What a hostile or careless writer may put in the place of a value.
VALUES: tuple[Any, ...] = (
    None, True, False, -1, 0, 1, 2**31, 2**53 + 1, 2**64, 10**40, -0.0, 1e-320, 1e308, "", "x",
    "../../../etc/passwd", "/dev/zero", "C:\\x", "\x00", "\x1b[2J", "\u202e", "{{ 7 * 7 }}", "NaN",
    "a" * 5000, [], {}, [[]], {"a": {"b": {}}}, [1, 2, 3], {"lanes": 1}, "serial", "simd",
    "tqgen-tuning/1", "tqgen-tuning/2", "encode:head_dim=64,bits=3",
)  # fmt: skip


class Renders(FakeRunner):
    def source_sha256(self, problem: Problem, config: Config) -> str:
        return "" if road_name(config) else render(problem, config).sha256


@pytest.fixture(scope="module")
def record() -> Record:
    fastest = task_of(PROBLEM).order[3]
    runner = Renders(lambda c, call: 5e-4 if c == fastest else 1e-3)
    return tune(task_of(PROBLEM, ("mlx",)), runner, ENVIRONMENT, clock=runner.clock)


def flip_bytes(data: bytes, chance: random.Random) -> bytes:
    changed = bytearray(data)
    for _ in range(chance.randint(1, 8)):
        changed[chance.randrange(len(changed))] = chance.randrange(256)
    return bytes(changed)


def cut(data: bytes, chance: random.Random) -> bytes:
    return data[: chance.randrange(len(data))]


def splice(data: bytes, chance: random.Random) -> bytes:
    a, b = sorted(chance.randrange(len(data)) for _ in range(2))
    words = (b"NaN", b"1e999", b"Infinity", b"9" * 500, b'"\\ud800"', b"[" * 5000, b"\xff\xfe", b"")
    return data[:a] + chance.choice(words) + data[b:]


def _places(node: Any) -> list[tuple[Any, Any]]:
    """(container, key) of every value in a JSON tree."""
    pairs = list(node.items()) if isinstance(node, dict) else list(enumerate(node))
    found = [(node, key) for key, _ in pairs]
    for _, child in pairs:
        if isinstance(child, dict | list):
            found += _places(child)
    return found


def change_value(data: bytes, chance: random.Random) -> bytes:
    """One to three values replaced, removed or doubled; the content hash put right where that
    can be done, so that the hash is not what stops it."""
    tree = json.loads(data)
    for _ in range(chance.randint(1, 3)):
        container, key = chance.choice(_places(tree))
        action = chance.randrange(4)
        if action == 0 and isinstance(container, dict):
            container.pop(key, None)
        elif action == 1 and isinstance(container, list):
            container.append(container[key % len(container)] if container else 1)
        elif action == 2 and isinstance(container, dict):
            container[str(chance.choice(VALUES))[:100]] = chance.choice(VALUES)
        elif isinstance(container, dict) or key < len(container):
            container[key] = chance.choice(VALUES)
    return rehashed(tree)


def swap_config(data: bytes, chance: random.Random) -> bytes:
    """Another winner: outside the space, or in it with the wrong text; sound in itself."""
    tree = json.loads(data)
    target = next(r for r in tree["results"] if r["config"] == tree["selected"])
    config = {
        "lanes": chance.choice([8, 1, 3, "x", "../x", True, "{{ 1 }}"]),
        "at_once": chance.choice([32, 8, 3, 4, 10**6, -1, "32", False]),
    }
    target["config"] = tree["selected"] = config
    if chance.random() < 0.3:
        target["source_sha256"] = f"{chance.randrange(2**256):064x}"
    return rehashed(tree)


def rehashed(tree: Any) -> bytes:
    plain = msgspec.json.encode(tree)
    try:
        return encode(msgspec.json.decode(plain, type=Record))
    except (msgspec.MsgspecError, ValueError):
        return plain


MUTATORS: tuple[Callable[[bytes, random.Random], bytes], ...] = (
    flip_bytes,
    cut,
    splice,
    change_value,
    swap_config,
)


def is_safe(choice: Choice) -> bool:
    """A config of the space, or the default's stand-in; nothing else."""
    if choice.origin == "default":
        return choice.config == task_of(PROBLEM).default
    if choice.config is None:
        return choice.road == "mlx"
    from tqgen_kernels.codegen.families import FAMILIES

    check_config(FAMILIES["dequantize"], PROBLEM, choice.config)
    return True


def test_ten_thousand_mutated_files(record: Record) -> None:
    """Decoded and judged in memory, the same steps that a file goes through."""
    chance = random.Random(2026)
    data = encode(record)
    outcomes = {"damaged": 0, "unsound": 0, "refused": 0, "used": 0}
    for number in range(MUTATIONS):
        mutated = MUTATORS[number % len(MUTATORS)](data, chance)
        try:
            found = decode(mutated)
        except (Damaged, OtherSchema):
            outcomes["damaged"] += 1
            continue
        reason = unsound(found)
        if reason is not None:
            outcomes["unsound"] += 1
            continue
        found = sound_record(mutated)
        result = found.winner
        reason = "no winner" if result is None else validate(PROBLEM, found, result)
        if reason is not None:
            outcomes["refused"] += 1
            continue
        assert result is not None
        assert is_safe(
            Choice(None if result.road else result.key, "exact record", "", road=result.road)
        )
        assert result.outcome == "correct"
        assert result.road or result.source_sha256 == render(PROBLEM, result.key).sha256
        outcomes["used"] += 1
    assert sum(outcomes.values()) == MUTATIONS
    assert min(outcomes.values()) > 50, outcomes  # every line of defence was reached


def test_mutated_files_on_disk(record: Record, tmp_path: Path) -> None:
    """Through the database: a notice each, aside what is damaged, and a safe choice."""
    chance = random.Random(7)
    data = encode(record)
    default = task_of(PROBLEM).default
    notices: list[str] = []
    database = Database(tmp_path, notice=notices.append)
    path = database.path(KEY, PROBLEM)
    path.parent.mkdir(parents=True)
    origins = set()
    for number in range(400):
        mutated = MUTATORS[number % len(MUTATORS)](data, chance)
        path.write_bytes(mutated)
        before = len(notices)
        choice = select(PROBLEM, ENVIRONMENT, database, None, validate, default=default)
        assert is_safe(choice)
        origins.add(choice.origin)
        if not path.exists():
            assert len(notices) == before + 1
            aside = Path(notices[-1].split("kept as ")[1].split(": ")[0])
            assert aside.read_bytes() == mutated
            aside.unlink()
        assert all(notice.isprintable() for notice in notices)
    assert origins == {"exact record", "default"}


def test_mutated_imports(record: Record, tmp_path: Path) -> None:
    chance = random.Random(11)
    away = Database(tmp_path / "away", notice=lambda text: None)
    taken = 0
    file = tmp_path / "tuned.json"
    whole = msgspec.json.encode(
        {"schema": "tqgen-tuning-export/1", "records": [msgspec.Raw(encode(record))] * 3}
    )
    for number in range(200):
        file.write_bytes(MUTATORS[number % 4](whole, chance))
        try:
            outcomes = import_tuned(file, away)
        except ValueError:
            continue
        assert all(outcome.reason for outcome in outcomes)
        taken += sum(outcome.status == "imported" for outcome in outcomes)
    assert taken >= 5  # the records that a mutation missed
    written = {p for p in tmp_path.rglob("*") if p.is_file()}
    inside = (away.root.resolve(), file)
    assert all(p == file or inside[0] in p.resolve().parents for p in written)
    for stored in away.records():
        assert stored.provenance == "imported"


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda children: (
        st.lists(children, max_size=4) | st.dictionaries(st.text(max_size=8), children, max_size=4)
    ),
    max_leaves=12,
)


@given(st.binary(max_size=200))
def test_any_bytes_are_damaged(data: bytes) -> None:
    with pytest.raises(Damaged):
        decode(data)


@given(
    st.sampled_from(sorted(Record.__struct_fields__)),
    json_values,
    st.booleans(),
)
def test_any_value_in_any_field(record: Record, field: str, value: Any, in_a_result: bool) -> None:
    tree = json.loads(encode(record))
    if in_a_result:
        fields = sorted(tree["results"][0])
        tree["results"][0][fields[len(field) % len(fields)]] = value
    else:
        tree[field] = value
    text = json.dumps(tree)  # writes NaN and Infinity too
    try:
        found = decode(encode(msgspec.json.decode(text, type=Record)))
    except (Damaged, OtherSchema, msgspec.MsgspecError, ValueError):
        with pytest.raises((Damaged, OtherSchema)):
            decode(text.encode(errors="surrogatepass"))
        return
    winner = found.winner
    if unsound(found) is None and winner and validate(PROBLEM, found, winner) is None:
        assert is_safe(Choice(None if winner.road else winner.key, "exact record", "", winner.road))


@given(st.dictionaries(st.text(max_size=10), json_values, max_size=3))
def test_no_environment_leads_out_of_the_folder(fields: dict[str, Any]) -> None:
    from tqgen_kernels.tuning.record.environment import Environment

    texts = [str(value) for value in fields.values()] + ["a", "b", "c"]
    environment = Environment(backend=texts[0], architecture=texts[1], device=texts[2])
    path = Database(Path("/root/tuned")).path(environment.device_key, PROBLEM)
    assert path.parent.parent == Path("/root/tuned")
    assert len(path.name) < 255
    assert len(path.parent.name) < 255
    assert ".." not in path.parts


def test_a_record_with_the_most_candidates_is_read(record: Record) -> None:
    """Large, but within bounds."""
    from msgspec.structs import replace

    first = len(record.results)
    nothing = replace(record.results[-1], outcome="launch", samples=(), final_samples=())
    many = tuple(
        replace(nothing, config=dict(config(i).values), index=10_000 + i, detail="x" * 100)
        for i in range(15_000)
    )
    big = seal(replace(record, results=(*record.results, *many)))
    assert len(decode(encode(big)).results) == first + 15_000
