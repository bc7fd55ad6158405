"""mlx-lm caches that hold keys and values compressed, and the hook that attends to them."""

from tqgen_kernels.versions import check_versions

check_versions()  # before mlx-lm's classes are subclassed: its cache interface has changed before
