"""Authorization: the object paths, sites and jobs that a user may use."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import TypeVar

from cts_core.errors import PathInaccessibleError, UnauthorizedError
from cts_core.identity.identity import Role, User
from cts_core.model.record import JobSummary
from cts_core.model.site import SiteName
from cts_core.object_paths import as_folder, is_below

_Job = TypeVar("_Job", bound=JobSummary)

_SITE_ROLES: Mapping[SiteName, Sequence[Role]] = {
    SiteName.KBASE: [Role.STAFF],
    SiteName.PERLMUTTER_JAWS: [Role.STAFF, Role.NERSC],
    SiteName.LAWRENCIUM_JAWS: [Role.STAFF, Role.NERSC],
}
"""Roles that users of a site must have, all of them (docs/reference/contract.md §2)."""


def check_site_roles(user: User, site: SiteName) -> None:
    """Raise UnauthorizedError unless the user has every role that the site needs."""
    lacking = [role.value for role in _SITE_ROLES.get(site, ()) if role not in user.roles]
    if lacking:
        raise UnauthorizedError(
            f"User {user.name} may not run jobs at cluster {site.value}: they are not a "
            f"{' nor a '.join(lacking)}"
        )


class PathAccess:
    """Access to paths by the configured folders, in which ``{user}`` stands for the user's name.

    Without configured folders every path is accessible, except those below the log folder, which never are.
    """

    def __init__(self, allowed_paths: Sequence[str], log_dir: str) -> None:
        self._templates = tuple(allowed_paths)
        self._log_dir = log_dir.rstrip("/")

    @property
    def is_restricted(self) -> bool:
        """Return whether folders are configured."""
        return bool(self._templates)

    def folders(self, user: User) -> list[str]:
        """Return the user's folders, sorted, each ending in ``/``; empty if every path is accessible."""
        return sorted(
            as_folder(template.replace("{user}", user.name)) for template in self._templates
        )

    def shared_folders(self) -> Iterator[tuple[str, str]]:
        """Yield each setting with its folder, or with the part of the folder that is the same for every user."""
        yield "log_dir", self._log_dir
        for number, template in enumerate(self._templates):
            parts = itertools.takewhile(lambda part: "{user}" not in part, template.split("/"))
            if folder := "/".join(parts):
                yield f"allowed_paths.{number}", folder

    def _is_accessible(self, user: User, path: str) -> bool:
        if is_below(path, self._log_dir):
            return False
        folders = self.folders(user)
        return not folders or any(is_below(path, folder) for folder in folders)

    def check_input(self, user: User, path: str) -> None:
        """Raise PathInaccessibleError unless the user may read ``path``."""
        if not self._is_accessible(user, path):
            raise PathInaccessibleError(
                f"The input path {path} is not a subpath of the user's allowed paths"
            )

    def check_output(self, user: User, path: str) -> None:
        """Raise PathInaccessibleError unless the user may write below ``path``."""
        if is_below(path, self._log_dir):
            raise PathInaccessibleError(f"Jobs may not write to the log path {self._log_dir}/")
        if not self._is_accessible(user, path):
            raise PathInaccessibleError(
                f"The output path {path} is not a subpath of the user's allowed paths"
            )

    def check_listing(self, user: User, prefix: str) -> None:
        """Raise PathInaccessibleError unless the user may list everything that starts with ``prefix``."""
        bucket = prefix.partition("/")[0]
        if not self._is_accessible(user, prefix.rpartition("/")[0] or bucket):
            raise PathInaccessibleError(
                f"The path {prefix} is not a subpath of the user's allowed paths"
            )

    def is_hidden(self, path: str) -> bool:
        """Return whether a path is left out of listings."""
        return is_below(path, self._log_dir)


def check_owner(user: User, job: _Job) -> _Job:
    """Return the job. Raises UnauthorizedError unless it is the user's."""
    if job.user != user.name:
        raise UnauthorizedError(f"User {user.name} may not access job {job.id}")
    return job
