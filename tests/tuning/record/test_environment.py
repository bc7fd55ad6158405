from __future__ import annotations

import pytest
from msgspec.structs import replace

from tests.tuning.fake import ENVIRONMENT
from tqgen_kernels.codegen.variant import Launch
from tqgen_kernels.tuning.record.environment import Environment, detect, mismatches, parse_gpu_cores
from tqgen_kernels.tuning.search.roofline import achieved_bandwidth, peak_bandwidth, relative_cost


def test_this_machine_is_described() -> None:
    here = detect("emulated")
    assert here.backend == "emulated"
    assert here.device_key.startswith("emulated-")
    assert here.mlx.count(".") >= 2
    assert here.python.startswith("3.")
    assert here.gpu_cores is None
    assert mismatches(here, here) == ()
    assert detect("cuda").headers
    assert not here.headers


@pytest.mark.parametrize(
    ("field", "value", "hard"),
    [
        ("architecture", "sm_80", True),
        ("backend", "metal", True),
        ("device", "another", False),
        ("gpu_cores", 114, False),
        ("os", "another", False),
        ("language", "8.0", False),
        ("headers", "0123", False),
        ("mlx", "0.33.0", False),
    ],
)
def test_what_differs(field: str, value: object, hard: bool) -> None:
    (difference,) = mismatches(replace(ENVIRONMENT, **{field: value}), ENVIRONMENT)
    assert difference.hard is hard
    assert str(value) in difference.text


@pytest.mark.parametrize(
    ("field", "value"),
    [("mlx", "0.32.9"), ("python", "3.13.0"), ("tqgen", "9"), ("memory_bytes", 1)],
)
def test_what_does_not_matter(field: str, value: object) -> None:
    assert mismatches(replace(ENVIRONMENT, **{field: value}), ENVIRONMENT) == ()


def test_cores_are_read_from_the_registry_listing() -> None:
    assert parse_gpu_cores('    "gpu-core-count" = 38\n') == 38
    assert parse_gpu_cores('"gpu-core-count" = 99999999') is None
    assert parse_gpu_cores("nothing") is None


def apple(device: str, cores: int | None = None) -> Environment:
    return Environment(backend="metal", architecture="applegpu", device=device, gpu_cores=cores)


def test_published_bandwidth() -> None:
    assert peak_bandwidth(ENVIRONMENT) == 3350
    assert peak_bandwidth(apple("Apple M1")) == 68.25
    assert peak_bandwidth(apple("Apple M4 Max", 40)) == 546
    assert peak_bandwidth(apple("Apple M4 Max", 32)) == 410
    assert peak_bandwidth(apple("Apple M4 Max")) is None
    assert peak_bandwidth(apple("Apple M99")) is None
    assert peak_bandwidth(replace(ENVIRONMENT, backend="emulated")) is None
    assert achieved_bandwidth(3_350_000, 1e-6) == pytest.approx(3350)


def launch(threads: int, groups: int) -> Launch:
    return Launch((threads * groups, 1, 1), (threads, 1, 1), (), ())


def test_the_static_cost_ranks_geometries() -> None:
    full = relative_cost(launch(256, 1600), 1024)
    assert full == pytest.approx(10 / 10)
    assert relative_cost(launch(32, 40), 1024) > 10 * full  # few threads in flight
    assert relative_cost(launch(256, 161), 1024) > 1.9  # a second wave for one threadgroup
    crowded = relative_cost(launch(32, 5000), 32 * 1024)  # memory for one threadgroup a core
    assert crowded > 10 * full
