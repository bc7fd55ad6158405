"""Which line of the author's text a machine address belongs to."""

import bisect
from functools import lru_cache
from pathlib import Path

from tqgen_kernels.emulator.messages import LAUNCH_LINES


def line_at(library: Path, address: int) -> int | None:
    """The line for an address in the file (not in the process); None if it has none."""
    starts, lines = _table(library)
    at = bisect.bisect_right(starts, address) - 1
    return lines[at] if at >= 0 else None


@lru_cache(maxsize=64)
def _table(library: Path) -> tuple[list[int], list[int | None]]:
    """Sorted addresses, and the line from each up to the next."""
    try:
        from elftools.elf.elffile import ELFFile
    except ImportError:
        return [], []
    if library.read_bytes()[:4] != b"\x7fELF":
        return [], []
    rows: list[tuple[int, int | None]] = []
    with library.open("rb") as stream:
        elf = ELFFile(stream)
        if not elf.has_dwarf_info():
            return [], []
        dwarf = elf.get_dwarf_info()
        for unit in dwarf.iter_CUs():
            program = dwarf.line_program_for_CU(unit)
            if program is None:
                continue
            # Files of the prelude: what they do belongs to the author's line before.
            ours = {
                number
                for number, file in enumerate(program["file_entry"])
                if file.name.endswith(b".h")
            }
            known: int | None = None
            for entry in program.get_entries():
                state = entry.state
                if state is None:
                    continue
                if state.end_sequence:
                    rows.append((state.address, None))
                    known = None
                    continue
                # Code that the compiler or we made up belongs to what came before.
                if 0 < state.line <= LAUNCH_LINES and state.file not in ours:
                    known = state.line
                rows.append((state.address, known))
    rows.sort(key=lambda row: (row[0], row[1] is not None))
    return [address for address, _ in rows], [line for _, line in rows]
