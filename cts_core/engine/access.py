"""Authorization: the object paths, sites and jobs that a user may use."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TypeVar

from cts_core.errors import CTSError, PathInaccessibleError, UnauthorizedError
from cts_core.identity.identity import Role, User
from cts_core.model.record import JobSummary
from cts_core.model.site import SiteName
from cts_core.object_paths import FolderPath, ObjectPath, ObjectPrefix

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

    Without configured folders every path is accessible, except those below the log folder, which never are. Each ``check_`` is
    the way from text that a user sent to a path of the object store. They raise IllegalPathError, and PathInaccessibleError.
    """

    def __init__(self, allowed_paths: Sequence[str], log_dir: FolderPath) -> None:
        self._templates = tuple(allowed_paths)
        self._log_dir = log_dir

    @property
    def is_restricted(self) -> bool:
        """Return whether folders are configured."""
        return bool(self._templates)

    def folders(self, user: User) -> list[FolderPath]:
        """Return the user's folders, sorted; empty if every path is accessible."""
        return sorted(
            FolderPath(template.replace("{user}", user.name)) for template in self._templates
        )

    def shared_folders(self) -> Iterator[tuple[str, FolderPath]]:
        """Yield each setting with its folder, or with the part of the folder that is the same for every user."""
        yield "log_dir", self._log_dir
        for number, template in enumerate(self._templates):
            parts = itertools.takewhile(lambda part: "{user}" not in part, template.split("/"))
            if folder := "/".join(parts):
                yield f"allowed_paths.{number}", FolderPath(folder)

    def _is_accessible(self, path: str, folders: Sequence[FolderPath]) -> bool:
        return not self.is_hidden(path) and (not folders or path.startswith(tuple(folders)))

    def check_inputs(self, user: User, paths: Iterable[str]) -> list[ObjectPath | CTSError]:
        """Return the paths of objects that the user may read, and in place of any other the error; it names the index."""
        folders = self.folders(user)
        checked: list[ObjectPath | CTSError] = []
        for index, path in enumerate(paths):
            try:
                checked.append(self._check_input(ObjectPath(path, index=index), folders))
            except CTSError as e:
                checked.append(e)
        return checked

    def check_input(self, user: User, path: str) -> ObjectPath:
        """Return the path of an object that the user may read."""
        return self._check_input(ObjectPath(path), self.folders(user))

    def _check_input(self, path: ObjectPath, folders: Sequence[FolderPath]) -> ObjectPath:
        if not self._is_accessible(path, folders):
            raise PathInaccessibleError(
                f"The input path {path} is not a subpath of the user's allowed paths"
            )
        return path

    def check_output(self, user: User, path: str) -> ObjectPath:
        """Return the path of an object that the user may write."""
        checked = ObjectPath(path)
        # An object in the place of a folder hides all that is below it at some stores.
        self._check_output(user, checked, as_folder=f"{checked}/")
        return checked

    def check_output_folder(self, user: User, folder: str) -> FolderPath:
        """Return a folder below which the user may write."""
        checked = FolderPath(folder)
        self._check_output(user, checked, as_folder=checked)
        return checked

    def _check_output(self, user: User, path: str, *, as_folder: str) -> None:
        if self.is_hidden(path) or self._log_dir.startswith(as_folder):
            raise PathInaccessibleError(f"Jobs may not write to the log path {self._log_dir}")
        if not self._is_accessible(path, self.folders(user)):
            raise PathInaccessibleError(
                f"The output path {path} is not a subpath of the user's allowed paths"
            )

    def check_listing(self, user: User, prefix: str) -> ObjectPrefix:
        """Return a prefix below which the user may list everything."""
        checked = ObjectPrefix(prefix)
        if not self._is_accessible(checked, self.folders(user)):
            raise PathInaccessibleError(
                f"The path {checked} is not a subpath of the user's allowed paths"
            )
        return checked

    def is_hidden(self, path: str) -> bool:
        """Return whether a path is below the log folder, or that folder itself: users neither use nor see it."""
        return path.startswith(self._log_dir)


def check_owner(user: User, job: _Job) -> _Job:
    """Return the job. Raises UnauthorizedError unless it is the user's."""
    if job.user != user.name:
        raise UnauthorizedError(f"User {user.name} may not access job {job.id}")
    return job
