"""Settings of the whole suite."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

# No timed tests: a busy machine must not fail one. The same examples every time, so that a
# failure on one machine is one on every other.
settings.register_profile(
    "suite",
    deadline=None,
    derandomize=True,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("suite")
