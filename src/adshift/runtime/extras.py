"""Packages that are not part of the small install, and the extra that brings them."""

from importlib.util import find_spec

from adshift.errors import AdshiftError


def needs(*packages: str, extra: str, what: str) -> None:
    """Check that packages are installed, without importing them.

    Args:
        packages: names to import them by.
        extra: of adshift, which brings them.
        what: needs them, for the error.

    Raises:
        AdshiftError: one is missing.
    """
    missing = [name for name in packages if not installed(name)]
    if missing:
        raise AdshiftError(f"{what}, and {', '.join(missing)} is not installed", f'pip install "adshift[{extra}]"')


def installed(package: str) -> bool:
    """Whether a package can be imported; it is not imported."""
    try:
        return find_spec(package) is not None
    except (ImportError, ValueError):  # a parent is missing, or its entry of sys.modules is None
        return False
