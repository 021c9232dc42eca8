"""Modules of other distributions that register a modality, an encoder type, ...: the entry points "embedspace.plugins".

They are imported only when a name or a file suffix is met that nothing here knows, so that nobody pays for them who
does not use them.
"""

from __future__ import annotations

__all__ = ["load_plugins"]

_done = False


def load_plugins() -> None:
    """Import what installed distributions list under "embedspace.plugins" in their entry points; at most once.

    Raises:
        ConfigError: If one cannot be imported.
    """
    global _done
    if _done:
        return
    _done = True
    from importlib.metadata import entry_points

    from embedspace.errors import ConfigError

    for found in entry_points(group="embedspace.plugins"):
        try:
            found.load()
        except Exception as error:  # whatever the other distribution does
            raise ConfigError(
                f"the plug-in {found.name!r} ({found.value}) cannot be imported: {error}; repair or uninstall it"
            ) from error
