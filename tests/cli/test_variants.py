"""`tqgen variants`: the search space of a problem, and what its candidates execute."""

import json

from typer.testing import CliRunner

from tqgen_kernels.cli.main import app

PROBLEM = "dequantize:head_dim=32,bits=3"


def run(*arguments: str) -> str:
    result = CliRunner().invoke(app, ["variants", *arguments])
    assert result.exit_code == 0, result.output
    return result.output


def test_each_point_is_a_candidate_or_says_why_not() -> None:
    rows = json.loads(run(PROBLEM, "--json"))
    assert sum(row["default"] for row in rows) == 1
    assert all(row["removed_by"] is None for row in rows if row["default"])
    assert any("less than a SIMD group" in (row["removed_by"] or "") for row in rows)
    assert not any("instructions" in row for row in rows)


def test_candidates_come_with_their_instructions() -> None:
    rows = json.loads(run(PROBLEM, "--json", "--candidates", "--instructions"))
    by_lanes = {row["config"]["lanes"]: row["instructions"] for row in rows}
    assert by_lanes[1]["simd"] < by_lanes[2]["simd"] < by_lanes[4]["simd"]
    assert all(count["instructions"] > count["floating"] > 5 for count in by_lanes.values())
    assert "per stored coordinate" in " ".join(run(PROBLEM, "--instructions").split())


def test_a_problem_without_stored_coordinates_has_no_count() -> None:
    result = CliRunner().invoke(app, ["variants", "combine:value_dim=64", "--instructions"])
    assert result.exit_code != 0
