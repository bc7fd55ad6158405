"""The versions of MLX and mlx-lm that this package works with, as its own metadata says."""

from __future__ import annotations

import warnings
from importlib import metadata
from typing import Literal

PACKAGE = "tqgen-kernels"
NEEDED = ("mlx", "mlx-lm")

Verdict = Literal["supported", "too old", "newer"]


class UnsupportedVersion(ImportError):
    """MLX or mlx-lm is older than what the caches are written for."""


class UntestedVersion(UserWarning):
    """MLX or mlx-lm is newer than what this package was tested with."""


def installed(name: str) -> str | None:
    """The version of an installed distribution, None if there is none."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def supported_range(name: str) -> str:
    """The range that our metadata declares for a distribution, as in '<0.33,>=0.32.1'; empty if
    there is none, as in a checkout that is not installed."""
    from packaging.requirements import Requirement

    try:
        requirements = metadata.requires(PACKAGE) or []
    except metadata.PackageNotFoundError:
        return ""
    for requirement in map(Requirement, requirements):
        if requirement.name == name:
            return str(requirement.specifier)
    return ""


def verdict(version: str, allowed: str) -> Verdict:
    """Where a version stands to a range of a floor and a ceiling. One that is no version, as of a
    build of one's own, counts as newer."""
    from packaging.specifiers import SpecifierSet
    from packaging.version import InvalidVersion, Version

    try:
        found = Version(version)
    except InvalidVersion:
        return "newer"
    if SpecifierSet(allowed).contains(found, prereleases=True):
        return "supported"
    floors = [each for each in SpecifierSet(allowed) if each.operator in (">=", ">", "~=", "==")]
    return "too old" if any(found < Version(each.version) for each in floors) else "newer"


def check_versions() -> None:
    """Raises UnsupportedVersion for an MLX or mlx-lm that is too old; warns of one that is newer
    than any that was tested. Says nothing of what is not installed: its import does."""
    for name in NEEDED:
        version, allowed = installed(name), supported_range(name)
        if version is None or not allowed:
            continue
        found = verdict(version, allowed)
        fix = f'pip install "{name}{allowed}"'
        if found == "too old":
            raise UnsupportedVersion(
                f"{name} {version} is too old for {PACKAGE}, which needs {allowed}: {fix}",
                name=PACKAGE,
            )
        if found == "newer":
            text = f"{name} {version} is newer than what {PACKAGE} was tested with ({allowed})."
            warnings.warn(f"{text} If something fails: {fix}", UntestedVersion, stacklevel=3)
