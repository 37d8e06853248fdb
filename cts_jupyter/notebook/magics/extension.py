"""What ``%load_ext cts_jupyter`` registers with IPython. The commands are imported when the first of them is used."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING

from IPython.core.completer import CompletionContext, SimpleMatcherResult, context_matcher
from IPython.core.interactiveshell import InteractiveShell
from IPython.core.magic import (
    Magics,
    line_cell_magic,
    magics_class,
    needs_local_scope,
    no_var_expand,
)

if TYPE_CHECKING:
    from cts_jupyter.notebook.magics.completion import Completer

_MAGIC = "%cts"
_IDENTIFIER = "cts"
_FIRST = 1_000.0
"""The priority of a matcher that is asked before Jedi, which takes long for lines that are no Python."""


@magics_class
class CTSMagics(Magics):
    """The magics ``%cts`` and ``%%cts``."""

    shell: InteractiveShell

    @no_var_expand
    @needs_local_scope
    @line_cell_magic
    def cts(
        self, line: str, cell: str | None = None, local_ns: Mapping[str, object] | None = None
    ) -> object:
        """Submit jobs to the CDM Task Service and look after them; ``%cts help`` lists the commands."""
        from cts_jupyter.notebook.magics.expansion import Namespace  # noqa: PLC0415 - see above
        from cts_jupyter.notebook.magics.magic import run_line  # noqa: PLC0415 - see above

        names = self.shell.user_ns
        local = {} if local_ns is None or local_ns is names else local_ns
        return run_line(line, cell, Namespace({**names, **local}), names)


def load_ipython_extension(shell: InteractiveShell) -> None:
    """Register ``%cts`` and ``%%cts``, and their completion."""
    shell.register_magics(CTSMagics)
    _register_completion(shell)


def _register_completion(shell: InteractiveShell) -> None:
    """Complete lines of ``%cts`` from now on, in the place of an earlier completer of them."""

    @cache
    def completer() -> Completer:
        from cts_jupyter.notebook.magics.completion import Completer  # noqa: PLC0415 - see above
        from cts_jupyter.notebook.magics.magic import COMMANDS  # noqa: PLC0415 - see above

        return Completer(shell, COMMANDS)

    @context_matcher(identifier=_IDENTIFIER, priority=_FIRST)  # type: ignore[untyped-decorator]  # IPython's
    def complete_cts(context: CompletionContext) -> SimpleMatcherResult:
        if _MAGIC not in context.full_text:
            return SimpleMatcherResult(completions=[])
        return completer().complete(context)

    matchers = shell.Completer.custom_matchers
    matchers[:] = [
        matcher
        for matcher in matchers
        if getattr(matcher, "matcher_identifier", None) != _IDENTIFIER
    ]
    matchers.append(complete_cts)
