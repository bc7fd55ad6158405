"""pytest plugin: ``pytest --metal-emulator`` runs Metal tests where there is no Metal."""

from __future__ import annotations

import pytest

CHECKS = ("full", "fast")
ORDERS = ("ascending", "descending", "random")


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("metal-emulator", "Metal kernels without Metal (tqgen-kernels)")
    group.addoption(
        "--metal-emulator",
        action="store_true",
        help="run mx.fast.metal_kernel on the CPU emulator; MLX answers as on a Mac when asked "
        "for Metal, so that tests are not skipped. Does nothing on a machine with Metal.",
    )
    group.addoption(
        "--metal-emulator-checks",
        choices=CHECKS,
        default="full",
        help="full: every fault detector (default); fast: the cheap ones",
    )
    group.addoption(
        "--metal-emulator-order",
        choices=ORDERS,
        default="ascending",
        help="order in which threads run; random finds code that relies on one",
    )
    group.addoption(
        "--metal-emulator-strict",
        action="store_true",
        help="soft findings fail a test too",
    )
    group.addoption(
        "--metal-emulator-no-guards",
        action="store_true",
        help="leave mx.metal.is_available() and the like as they are",
    )


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    # Before anything is collected: many kernels are built when their module is imported.
    if not config.getoption("--metal-emulator"):
        return
    from tqgen_kernels import emulator
    from tqgen_kernels.emulator.installation import install, uninstall

    if not install(as_metal=not config.getoption("--metal-emulator-no-guards")):
        return
    options = emulator.options(
        checks=config.getoption("--metal-emulator-checks"),
        order=config.getoption("--metal-emulator-order"),
        strict=config.getoption("--metal-emulator-strict"),
    )
    options.__enter__()

    def undo() -> None:
        options.__exit__(None, None, None)
        uninstall()

    config.add_cleanup(undo)


def pytest_report_header(config: pytest.Config) -> str | None:
    if not config.getoption("--metal-emulator"):
        return None
    from tqgen_kernels.emulator.installation import is_installed

    if not is_installed():
        return "metal-emulator: not used, this machine has Metal"
    return (
        f"metal-emulator: checks={config.getoption('--metal-emulator-checks')}, "
        f"order={config.getoption('--metal-emulator-order')}, "
        f"strict={config.getoption('--metal-emulator-strict')}"
    )
