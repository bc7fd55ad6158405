"""The device's peak memory bandwidth, and what it says about a candidate before and after it ran.

KV-cache kernels move far more bytes than they compute on, so bandwidth is the roof.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from tqgen_kernels.codegen.variant import Launch
from tqgen_kernels.tuning.record.environment import Environment

# GB/s as the makers publish them (Apple's and NVIDIA's technical specifications). A chip that
# comes with two memory configurations is listed by GPU core count, the most first. A name that
# is not listed has no roof: shares of it are left out rather than guessed.
_PUBLISHED: tuple[tuple[str, tuple[tuple[int, float], ...]], ...] = (
    (r"Apple M1 Ultra", ((0, 800.0),)),
    (r"Apple M1 Max", ((0, 400.0),)),
    (r"Apple M1 Pro", ((0, 200.0),)),
    (r"Apple M1", ((0, 68.25),)),
    (r"Apple M2 Ultra", ((0, 800.0),)),
    (r"Apple M2 Max", ((0, 400.0),)),
    (r"Apple M2 Pro", ((0, 200.0),)),
    (r"Apple M2", ((0, 100.0),)),
    (r"Apple M3 Ultra", ((0, 819.0),)),
    (r"Apple M3 Max", ((40, 400.0), (0, 300.0))),
    (r"Apple M3 Pro", ((0, 150.0),)),
    (r"Apple M3", ((0, 100.0),)),
    (r"Apple M4 Max", ((40, 546.0), (0, 410.0))),
    (r"Apple M4 Pro", ((0, 273.0),)),
    (r"Apple M4", ((0, 120.0),)),
    (r"Apple M5", ((0, 153.0),)),
    (r"NVIDIA H200", ((0, 4800.0),)),
    (r"NVIDIA H100 80GB HBM3", ((0, 3350.0),)),
    (r"NVIDIA H100 PCIe", ((0, 2000.0),)),
    (r"NVIDIA A100-SXM4-80GB", ((0, 2039.0),)),
    (r"NVIDIA A100-SXM4-40GB", ((0, 1555.0),)),
    (r"NVIDIA L40S", ((0, 864.0),)),
    (r"NVIDIA L4", ((0, 300.0),)),
    (r"NVIDIA GeForce RTX 4090", ((0, 1008.0),)),
)


def peak_bandwidth(environment: Environment) -> float | None:
    """Published peak of the device, GB/s; None where it is not known or nothing real is timed."""
    if environment.backend not in ("metal", "cuda"):
        return None
    for name, peaks in _PUBLISHED:
        if re.fullmatch(name, environment.device.strip()):
            if len(peaks) > 1 and environment.gpu_cores is None:
                return None
            cores = environment.gpu_cores or 0
            return next(peak for least, peak in peaks if cores >= least)
    return None


def achieved_bandwidth(bytes_moved: int, seconds: float) -> float:
    """GB/s (1e9 bytes) of a launch that must move `bytes_moved`."""
    return bytes_moved / seconds / 1e9


@dataclass(frozen=True)
class Occupancy:
    """Rough limits of a GPU for ranking candidates before any runs. Not a model of a chip.

    cores: GPU cores or SMs. threads: resident on one. memory: threadgroup bytes of one.
    needed: threads in flight on one core from which on memory latency is hidden.
    """

    cores: int = 40
    threads: int = 1024
    memory: int = 32 * 1024
    needed: int = 512


def relative_cost(
    launch: Launch, threadgroup_memory: int, device: Occupancy | None = None
) -> float:
    """How long a launch takes by the roofline, in units of its time at full bandwidth (>= 1).

    A launch that keeps too few threads in flight to hide the memory's latency gets that share of
    the bandwidth only; a last wave of threadgroups that fills the device partly costs a whole
    one. Only the order of two candidates' costs means something.
    """
    device = device or Occupancy()
    group = _product(launch.threadgroup)
    groups = max(1, _product(launch.grid) // max(1, group))
    by_threads = max(1, device.threads // max(1, group))
    by_memory = max(1, device.memory // max(1, threadgroup_memory))
    resident = min(by_threads, by_memory)
    at_once = resident * device.cores
    waves = -(-groups // at_once)
    in_flight = min(groups, at_once) * group
    share = min(1.0, in_flight / (device.needed * device.cores))
    tail = waves * at_once / groups if groups > at_once else 1.0
    return tail / share


def _product(sizes: tuple[int, int, int]) -> int:
    return sizes[0] * sizes[1] * sizes[2]
