"""A compiler's message in the author's words and lines."""

import re

# Added to the line numbers of a header, so that a bare number tells header from source.
HEADER_LINES = 1_000_000
LAUNCH_LINES = 2_000_000  # code that calls the kernel, none of the author's

_ABSENT = re.compile(
    r"'((?:metal::)?(?:simdgroup_event|simdgroup_async_copy\w*|texture\w*|depth2d\w*|sampler|"
    r"simdgroup_future|visible_function_table|tensor\w*|cooperative_tensor))'"
)
_METAL_WORDS = {
    "__global": "device",
    "__local": "threadgroup",
    "__private": "thread",
    "__constant": "constant",
}


def in_metal_terms(message: str) -> str:
    """`message` without columns, which the rewritten text has moved."""
    message = re.sub(
        r"(\.(?:header|launch):)[12](\d{6}):", lambda m: f"{m[1]}{int(m[2])}:", message
    )
    message = re.sub(r"^([^\s:]+:\d+):\d+:", r"\1:", message, flags=re.MULTILINE)
    message = re.sub(r"^\d+ (?:error|warning)s? (?:and \d+ errors? )?generated\.\n?", "", message,
                     flags=re.MULTILINE)  # fmt: skip
    message = message.replace("*__private", "*")
    words = re.sub(
        r"__(?:global|local|private|constant)\b", lambda m: _METAL_WORDS[m[0]], message
    ).strip()
    if absent := _ABSENT.search(words):
        words += (
            f"\n{absent[1]}: the emulator has no textures, tensors or asynchronous copies; "
            "copy with loads and stores."
        )
    return words
