"""The kernel families, by name."""

from __future__ import annotations

from tqgen_kernels.codegen.families.attend import ATTEND
from tqgen_kernels.codegen.families.combine import COMBINE
from tqgen_kernels.codegen.families.dequantize import DEQUANTIZE
from tqgen_kernels.codegen.families.encode import ENCODE
from tqgen_kernels.codegen.families.prefill import PREFILL
from tqgen_kernels.codegen.families.qk_scores import QK_SCORES
from tqgen_kernels.codegen.families.trellis_dequantize import TRELLIS_DEQUANTIZE
from tqgen_kernels.codegen.families.trellis_encode import TRELLIS_ENCODE
from tqgen_kernels.codegen.family import Family

FAMILIES: dict[str, Family] = {
    family.name: family
    for family in (
        ENCODE,
        DEQUANTIZE,
        TRELLIS_ENCODE,
        TRELLIS_DEQUANTIZE,
        QK_SCORES,
        ATTEND,
        COMBINE,
        PREFILL,
    )
}
