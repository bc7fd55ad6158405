"""C++ that calls a kernel for one thread, or for all threads of a threadgroup."""

from collections.abc import Sequence

from tqgen_kernels.emulator.signature import GeneratedKernel, Parameter

# From `g`, the running threadgroup, `p`, the thread's position in it, and `i`, its index.
_ATTRIBUTES = {
    "dispatch_quadgroups_per_threadgroup": "(g.dispatched_threads + 3) / 4",
    "dispatch_simdgroups_per_threadgroup": "(g.dispatched_threads + 31) / 32",
    "dispatch_threads_per_threadgroup": "__tq_uint3(g.dispatched_size)",
    "grid_origin": "uint3{0, 0, 0}",
    "grid_size": "__tq_uint3(g.grid)",
    "quadgroup_index_in_threadgroup": "i / 4",
    "quadgroups_per_threadgroup": "(g.threads + 3) / 4",
    "simdgroup_index_in_threadgroup": "i / 32",
    "simdgroups_per_threadgroup": "(g.threads + 31) / 32",
    "thread_execution_width": "32u",
    "thread_index_in_quadgroup": "i % 4",
    "thread_index_in_simdgroup": "i % 32",
    "thread_index_in_threadgroup": "i",
    "thread_position_in_grid": "__tq_uint3(g.position) * __tq_uint3(g.dispatched_size) + p",
    "thread_position_in_threadgroup": "p",
    "threadgroup_position_in_grid": "__tq_uint3(g.position)",
    "threadgroups_per_grid": "__tq_uint3(g.groups)",
    "threads_per_grid": "__tq_uint3(g.grid)",
    "threads_per_simdgroup": "32u",
    "threads_per_threadgroup": "__tq_uint3(g.size)",
}


def entry_points(kernel: GeneratedKernel, template_arguments: str) -> str:
    """`tq_entry` for the thread `tq_thread`, `tq_range` for a whole threadgroup without waits."""
    buffers = "".join(_buffer(p) for p in kernel.parameters)
    positions = "".join(
        f"  const auto __tq_{p.name} = {_ATTRIBUTES[p.name]};\n"
        for p in kernel.parameters
        if p.kind == "attribute"
    )
    call = (
        f"  TQ_CALL {kernel.kernel_name}{template_arguments}"
        f"({', '.join(_argument(p) for p in kernel.parameters)});\n"
    )
    return f"""
#if defined(TQ_CHECKED) && defined(__clang__)
// Only the kernel reports what it does, not what surrounds it.
#define TQ_UNCHECKED no_sanitize("thread", "alignment", "array-bounds", "integer-divide-by-zero")
#define TQ_CALL [[clang::noinline]]
#else
#define TQ_UNCHECKED
#define TQ_CALL
#endif
#define TQ_ENTRY extern "C" __attribute__((visibility("default"), TQ_UNCHECKED))
TQ_FN __attribute__((TQ_UNCHECKED)) uint3 __tq_uint3(tq_uint3 v) {{
  return uint3{{v.x, v.y, v.z}};
}}
TQ_ENTRY void tq_entry(void* const* b) {{
  const tq_group g = tq_current_group;
{buffers}  const uint i = tq_thread;
  const uint3 p = uint3{{i % g.size.x, i / g.size.x % g.size.y, i / g.size.x / g.size.y}};
{positions}{call}}}
TQ_ENTRY void tq_range(void* const* b) {{
  const tq_group g = tq_current_group;
{buffers}  uint i = 0;
  for (uint z = 0; z < g.size.z; ++z)
  for (uint y = 0; y < g.size.y; ++y)
  for (uint x = 0; x < g.size.x; ++x, ++i) {{
  tq_thread = i;
  const uint3 p = uint3{{x, y, z}};
{positions}{call}  }}
}}
"""


def _buffer(parameter: Parameter) -> str:
    """A local variable that holds the address of a buffer."""
    if parameter.kind == "attribute":
        return ""
    const = "" if parameter.kind == "output" else "const "
    pointer = f"{const}{parameter.address_space} {parameter.metal_type}*"
    address = f"(ulong)b[{parameter.buffer_index}]"
    return f"  {pointer} const __tq_{parameter.name} = ({pointer}){address};\n"


def _argument(parameter: Parameter) -> str:
    return f"{'*' if parameter.is_reference else ''}__tq_{parameter.name}"


def template_arguments(values: Sequence[str]) -> str:
    return f"<{', '.join(values)}>" if values else ""
