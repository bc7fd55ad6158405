"""Kernels with one fault each. The comment `// FAULT` marks the line that must be reported."""

from dataclasses import dataclass, field

import mlx.core as mx


@dataclass(frozen=True)
class Faulty:
    """A kernel of one float input `x` and one float output `out`, and what is wrong with it."""

    name: str
    kind: str
    source: str
    header: str = ""
    threads: int = 64
    group: int = 64
    size: int = 64
    out_size: int = 64
    soft: bool = False
    fast: bool = False  # found without the detectors, too
    init: float | None = 0
    space: str | None = None
    buffer: str | None = None
    index: int | None = None
    order: str = "ascending"
    dtype: mx.Dtype = field(default=mx.float32)

    def line(self) -> int | None:
        return next(iter(self._marked("// FAULT")), None)

    def concerned(self) -> set[int | None]:
        """The line of the fault and those whose accesses meet there, marked `// ALSO`."""
        return {self.line(), *self._marked("// ALSO")}

    def _marked(self, mark: str) -> list[int]:
        return [n for n, text in enumerate(self.source.split("\n"), 1) if mark in text]


HEAD = """uint i = thread_position_in_grid.x;
uint t = thread_index_in_threadgroup;
uint lane = thread_index_in_simdgroup;
uint group = threadgroup_position_in_grid.x;
"""


def faulty(name: str, kind: str, body: str, **given: object) -> Faulty:
    return Faulty(name, kind, HEAD + body, **given)  # type: ignore[arg-type]


FAULTS = [
    faulty(
        "read_past_the_end",
        "out-of-bounds",
        """float v = 0;
v = x[i + 1]; // FAULT
out[i] = v;
""",
        space="device",
        buffer="x",
        index=64,
        fast=True,
    ),
    faulty(
        "write_past_the_end",
        "out-of-bounds",
        "out[i + 1] = x[i]; // FAULT\n",
        space="device",
        buffer="out",
        index=64,
        fast=True,
    ),
    faulty(
        "negative_index",
        "out-of-bounds",
        "int back = int(i) - 5;\nout[i] = x[back]; // FAULT\n",
        space="device",
        buffer="x",
        index=-5,
    ),
    faulty(
        "far_index",
        "out-of-bounds",
        "out[i] = x[i * 1000000u]; // FAULT\n",
        space="device",
        buffer="x",
        index=1000000,
        fast=True,
    ),
    faulty(
        "threadgroup_past_the_end",
        "out-of-bounds",
        """threadgroup float s[64];
s[t] = x[i];
threadgroup_barrier(mem_flags::mem_threadgroup);
threadgroup float* p = s;
out[i] = p[t + 1]; // FAULT
""",
        space="threadgroup",
        buffer="s",
        index=64,
    ),
    faulty(
        "threadgroup_row_past_the_end",
        "out-of-bounds",
        """threadgroup float s[2][16];
if (t < 2) s[0][t + 15] = x[i]; // FAULT
out[i] = x[i];
""",
        space="threadgroup",
        buffer="s",
        index=16,
    ),
    faulty(
        "constant_past_the_end",
        "out-of-bounds",
        "out[i] = TABLE[i]; // FAULT\n",
        header="constant float TABLE[4] = {1, 2, 3, 4};\n",
        space="constant",
        index=4,
    ),
    faulty(
        "component_past_the_end",
        "out-of-bounds",
        "float4 v = float4(x[i]);\nout[i] = v[t]; // FAULT\n",
        space="thread",
        index=4,
    ),
    faulty(
        "atomic_past_the_end",
        "out-of-bounds",
        """device atomic_float* sums = (device atomic_float*)out;
atomic_fetch_add_explicit(sums + i + 1, x[i], memory_order_relaxed); // FAULT
""",
        space="device",
        buffer="out",
        index=64,
        fast=True,
    ),
    faulty(
        "matrix_past_the_end",
        "out-of-bounds",
        """simdgroup_float8x8 m;
simdgroup_load(m, x + 8); // FAULT
simdgroup_store(m, out);
""",
        threads=32,
        group=32,
        space="device",
        buffer="x",
        index=64,
        fast=True,
    ),
    faulty(
        "packed_vector_past_the_end",
        "out-of-bounds",
        """device packed_float3* p = (device packed_float3*)out;
p[t] = float3(x[i]); // FAULT
""",
        space="device",
        buffer="out",
        index=64,
    ),
    faulty(
        "local_past_the_end",
        "out-of-bounds",
        """float v[4] = {0, 1, 2, 3};
uint n = uint(x[i]);
out[i] = v[n]; // FAULT
""",
        space="thread",
        index=4,
    ),
    faulty(
        "missing_barrier",
        "race",
        """threadgroup float s[64];
s[t] = x[i]; // ALSO
out[i] = s[(t + 63) % 64]; // FAULT
""",
        space="threadgroup",
        buffer="s",
    ),
    faulty(
        "missing_second_barrier",
        "race",
        """threadgroup float s[64];
s[t] = x[i];
threadgroup_barrier(mem_flags::mem_threadgroup);
float v = s[63 - t]; // ALSO
s[t] = v; // FAULT
threadgroup_barrier(mem_flags::mem_threadgroup);
out[i] = s[t];
""",
        space="threadgroup",
        buffer="s",
    ),
    faulty(
        "barrier_missing_in_a_tree",
        "race",
        """threadgroup float s[64];
s[t] = x[i];
threadgroup_barrier(mem_flags::mem_threadgroup);
for (uint k = 32; k > 0; k >>= 1) {
    if (t < k) s[t] += s[t + k]; // FAULT
}
out[i] = s[0]; // ALSO
""",
        space="threadgroup",
        buffer="s",
    ),
    faulty(
        "neighbouring_halves",
        "race",
        """threadgroup half s[64];
s[t] = half(x[i]); // ALSO
out[i] = s[t ^ 1]; // FAULT
""",
        space="threadgroup",
        buffer="s",
    ),
    faulty(
        "all_write_one",
        "race",
        """threadgroup float s[1];
s[0] = x[i]; // FAULT
threadgroup_barrier(mem_flags::mem_threadgroup);
out[i] = s[0];
""",
        space="threadgroup",
        buffer="s",
        index=0,
    ),
    faulty(
        "neighbours_write_the_same_but_not_all",
        "race",
        """threadgroup float s[1];
s[0] = float(t / 2); // FAULT
threadgroup_barrier(mem_flags::mem_threadgroup);
out[i] = s[0];
""",
        space="threadgroup",
        buffer="s",
        index=0,
    ),
    faulty(
        "groups_write_one",
        "race",
        "if (t == 0) out[0] = x[i]; // FAULT\n",
        threads=128,
        size=128,
        out_size=1,
        space="device",
        buffer="out",
        index=0,
    ),
    faulty(
        "groups_read_each_other",
        "race",
        """out[i] = x[i]; // ALSO
threadgroup_barrier(mem_flags::mem_device);
out[i + 128] = out[(i + 64) % 128]; // FAULT
""",
        threads=128,
        size=128,
        out_size=256,
        space="device",
        buffer="out",
    ),
    faulty(
        "counter_without_atomic",
        "race",
        "out[0] += x[i]; // FAULT\n",
        out_size=1,
        space="device",
        buffer="out",
        index=0,
    ),
    faulty(
        "atomic_and_plain",
        "race",
        """device atomic_float* sum = (device atomic_float*)out;
atomic_fetch_add_explicit(sum, x[i], memory_order_relaxed); // FAULT
float v = out[0]; // ALSO
if (v < 0) out[1] = v;
""",
        out_size=2,
        space="device",
        buffer="out",
        index=0,
    ),
    faulty(
        "wrong_mem_flag",
        "race",
        """threadgroup float s[64];
s[t] = x[i];
threadgroup_barrier(mem_flags::mem_device);
out[i] = s[(t + 1) % 64]; // FAULT
""",
        soft=True,
        space="threadgroup",
        buffer="s",
    ),
    faulty(
        "no_mem_flag",
        "race",
        """threadgroup float s[64];
s[t] = x[i];
threadgroup_barrier(mem_flags::mem_none);
out[i] = s[(t + 1) % 64]; // FAULT
""",
        soft=True,
        space="threadgroup",
    ),
    faulty(
        "lockstep",
        "race",
        """threadgroup float s[64];
s[t] = simd_sum(x[i]) + lane;
simd_max(s[t]);
out[i] = s[t ^ 1]; // FAULT
""",
        soft=True,
        space="threadgroup",
    ),
    faulty(
        "simdgroup_barrier_is_too_weak",
        "race",
        """threadgroup float s[64];
s[t] = x[i]; // ALSO
simdgroup_barrier(mem_flags::mem_threadgroup);
out[i] = s[63 - t]; // FAULT
""",
        space="threadgroup",
        order="descending",
    ),
    faulty(
        "same_value",
        "race",
        """threadgroup float s[1];
s[0] = 3.0f; // FAULT
threadgroup_barrier(mem_flags::mem_threadgroup);
out[i] = s[0];
""",
        soft=True,
        space="threadgroup",
    ),
    faulty(
        "threadgroup_not_written",
        "uninitialised-read",
        """threadgroup float s[64];
if (t < 32) s[t] = x[i];
threadgroup_barrier(mem_flags::mem_threadgroup);
out[i] = s[t]; // FAULT
""",
        space="threadgroup",
        buffer="s",
        index=32,
    ),
    faulty(
        "output_not_initialised",
        "uninitialised-read",
        "out[i] += x[i]; // FAULT\n",
        init=None,
        space="device",
        buffer="out",
        index=0,
    ),
    faulty(
        "array_of_the_thread_not_written",
        "uninitialised-read",
        """float sums[8];
for (uint k = 1; k < 8; ++k) sums[k] = x[i];
out[i] = sums[t % 8]; // FAULT
""",
        space="thread",
        buffer="sums",
    ),
    faulty(
        "sum_without_a_start",
        "uninitialised-read",
        """half total;
for (uint k = 0; k < 4; ++k) {
    total += half(x[k]); // FAULT
}
out[i] = total; // ALSO
""",
        space="thread",
        buffer="total",
    ),
    faulty(
        "output_not_written",
        "unwritten-output",
        "if (t < 60) out[i] = x[i];\n",
        init=None,
        soft=True,
        space="device",
        buffer="out",
        index=60,
    ),
    faulty(
        "barrier_in_branch",
        "barrier-divergence",
        """threadgroup float s[64];
s[t] = x[i];
if (t < 40) {
    threadgroup_barrier(mem_flags::mem_threadgroup); // FAULT
}
out[i] = s[t];
""",
        fast=True,
    ),
    faulty(
        "return_before_barrier",
        "barrier-divergence",
        """threadgroup float s[64];
if (t == 63) return;
s[t] = x[i];
threadgroup_barrier(mem_flags::mem_threadgroup); // FAULT
out[i] = s[t];
""",
        fast=True,
    ),
    faulty(
        "barrier_in_a_loop_of_different_length",
        "barrier-divergence",
        """for (uint k = 0; k < t % 3; ++k) {
    threadgroup_barrier(mem_flags::mem_device); // FAULT
}
out[i] = x[i];
""",
        fast=True,
    ),
    faulty(
        "different_barriers",
        "barrier-divergence",
        """if (t < 32) {
    threadgroup_barrier(mem_flags::mem_device); // FAULT
    out[i] = x[i];
} else {
    threadgroup_barrier(mem_flags::mem_threadgroup);
    out[i] = -x[i];
}
""",
        fast=True,
    ),
    faulty(
        "simdgroup_barrier_in_branch",
        "barrier-divergence",
        """if (lane < 7) simdgroup_barrier(mem_flags::mem_threadgroup); // FAULT
out[i] = x[i];
""",
    ),
    faulty(
        "shuffle_from_inactive",
        "inactive-lane",
        """float v = x[i];
if (lane < 16) v = simd_shuffle_xor(v, 16); // FAULT
out[i] = v;
""",
        fast=True,
    ),
    faulty(
        "broadcast_from_inactive",
        "inactive-lane",
        """float v = x[i];
if (lane > 3) v = simd_broadcast(v, 0); // FAULT
out[i] = v;
""",
        fast=True,
    ),
    faulty(
        "sum_in_branch",
        "simd-divergence",
        """float v = x[i];
if (lane < 16) v = simd_sum(v); // FAULT
out[i] = v;
""",
        soft=True,
    ),
    faulty(
        "misaligned_vector",
        "misaligned",
        """device const float4* p = (device const float4*)(x + (i & 1));
out[i] = p[0].x; // FAULT
""",
    ),
    faulty(
        "division_by_zero",
        "division-by-zero",
        "int n = int(x[i]) - 3;\nout[i] = float(100 / n); // FAULT\n",
        fast=True,
    ),
    faulty(
        "modulo_zero",
        "division-by-zero",
        "uint n = i & 7u;\nout[i] = float(100u % n); // FAULT\n",
        fast=True,
    ),
    faulty(
        "shift_by_32",
        "shift-out-of-range",
        "uint n = i + 1;\nout[i] = float(1u << n); // FAULT\n",
        index=32,
    ),
    faulty(
        "shift_right_too_far",
        "shift-out-of-range",
        "uint v = 77u;\nv >>= (i & 32u); // FAULT\nout[i] = float(v);\n",
        index=32,
    ),
    faulty(
        "float_too_large_for_int",
        "float-to-int-range",
        "float big = x[i] * 1e9f;\nout[i] = float(int(big)); // FAULT\n",
    ),
    faulty(
        "vector_of_floats_too_large",
        "float-to-int-range",
        "float4 v = float4(x[i]) * 3e8f;\nint4 n = int4(v); // FAULT\nout[i] = float(n.x);\n",
    ),
    faulty(
        "negative_to_unsigned",
        "float-to-int-range",
        "float v = x[i] - 3.0f;\nout[i] = float(uint(v)); // FAULT\n",
    ),
    faulty(
        "endless_loop",
        "hang",
        """uint n = i;
while (n < 1000u) n = n ^ (uint(x[i]) & 0u); // FAULT
out[i] = n;
""",
        fast=True,
    ),
    faulty(
        "too_much_threadgroup_memory",
        "threadgroup-memory",
        """threadgroup float a[4096];
threadgroup float b[4097]; // FAULT
a[t] = b[t] = x[i];
out[i] = a[t] + b[t];
""",
        fast=True,
    ),
    faulty(
        "write_to_input",
        "write-to-input",
        "device float* p = (device float*)x;\np[i] = 2.0f; // FAULT\nout[i] = p[i];\n",
        space="device",
        buffer="x",
    ),
    faulty(
        "wild_pointer",
        "wild-pointer",
        """device float* p = nullptr;
if (x[i] > 3) p = out;
p[i] = 2.0f; // FAULT
""",
        fast=True,
    ),
]
