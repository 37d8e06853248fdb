"""Which object paths a user may use."""

from __future__ import annotations

from collections.abc import Sequence

from cts_core.errors import PathInaccessibleError
from cts_core.identity.identity import User
from cts_core.objects.paths import is_below


class PathAccess:
    """The configured folders, in which ``{user}`` stands for the user's name.

    Without any, every path may be used but those below the log folder, which is never open.
    """

    def __init__(self, allowed_paths: Sequence[str], log_dir: str) -> None:
        self._templates = tuple(allowed_paths)
        self._log_dir = log_dir.rstrip("/")

    @property
    def is_restricted(self) -> bool:
        """Whether folders are configured."""
        return bool(self._templates)

    def folders(self, user: User) -> list[str]:
        """The user's folders, sorted, each ending in ``/``; empty when every path may be used."""
        return sorted(
            f"{template.replace('{user}', user.name).rstrip('/')}/" for template in self._templates
        )

    def _is_open(self, user: User, path: str) -> bool:
        if is_below(path, self._log_dir):
            return False
        folders = self.folders(user)
        return not folders or any(is_below(path, folder) for folder in folders)

    def check_input(self, user: User, path: str) -> None:
        """Raise PathInaccessibleError unless the user may read ``path``."""
        if not self._is_open(user, path):
            raise PathInaccessibleError(
                f"The input path {path} is not a subpath of the user's allowed paths"
            )

    def check_output(self, user: User, path: str) -> None:
        """Raise PathInaccessibleError unless the user may write below ``path``."""
        if is_below(path, self._log_dir):
            raise PathInaccessibleError(f"Jobs may not write to the log path {self._log_dir}/")
        if not self._is_open(user, path):
            raise PathInaccessibleError(
                f"The output path {path} is not a subpath of the user's allowed paths"
            )

    def check_listing(self, user: User, prefix: str) -> None:
        """Raise PathInaccessibleError unless everything that starts with ``prefix`` may be seen."""
        bucket = prefix.partition("/")[0]
        if not self._is_open(user, prefix.rpartition("/")[0] or bucket):
            raise PathInaccessibleError(
                f"The path {prefix} is not a subpath of the user's allowed paths"
            )

    def is_hidden(self, path: str) -> bool:
        """Whether a path is left out of listings."""
        return is_below(path, self._log_dir)
