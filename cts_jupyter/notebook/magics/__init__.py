"""The magic ``%cts``: it parses raw text, one parser per subcommand, and expands variables word by word."""

from __future__ import annotations

from IPython.core.interactiveshell import InteractiveShell


def load_ipython_extension(shell: InteractiveShell) -> None:
    """Register ``%cts`` and ``%%cts``; IPython calls this for ``%load_ext cts_jupyter``."""
    from cts_jupyter.notebook.magics.completion import Completer  # noqa: PLC0415 - the parts are used without IPython
    from cts_jupyter.notebook.magics.magic import COMMANDS, CTSMagics  # noqa: PLC0415 - as above

    shell.register_magics(CTSMagics)
    Completer(shell, COMMANDS).register()
