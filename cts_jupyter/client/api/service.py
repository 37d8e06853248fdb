"""Endpoints for the service itself: identity, health, metrics, sites and images."""

from __future__ import annotations

from collections.abc import Sequence

from cts_jupyter.client.api.base import Endpoints, drop_none, quote_path
from cts_jupyter.client.models import Health, Image, Readiness, Root, Site, SiteLoad, WhoAmI


class ServiceEndpoints(Endpoints):
    """Endpoints about the service, its sites and images."""

    def root(self) -> Root:
        """Return the service's name, version and time."""
        return Root.model_validate(self._get(""))

    def whoami(self) -> WhoAmI:
        """Return the user, roles and allowed paths of the caller."""
        return WhoAmI.model_validate(self._get("whoami"))

    def health(self) -> Health:
        """Return the liveness of the service."""
        return Health.model_validate(self._get("health"))

    def ready(self) -> Readiness:
        """Return the states of the service's dependencies. A service that is not ready refuses with 503."""
        return Readiness.model_validate(self._get("ready"))

    def metrics(self) -> str:
        """Return the service's metrics in Prometheus' text format; for admins."""
        with self._transport.stream("GET", "metrics") as response:
            return b"".join(self._transport.pieces(response)).decode()

    def sites(self) -> list[Site]:
        """Return the sites where jobs run."""
        return [Site.model_validate(site) for site in self._get("sites")["sites"]]

    def site_load(self, site: str) -> SiteLoad:
        """Return what waits and runs at a site."""
        return SiteLoad.model_validate(self._get(f"sites/{quote_path(site)}/load"))

    def activate_site(self, site: str) -> None:
        """Make a site accept jobs; for admins."""
        self._put(f"admin/sites/{quote_path(site)}/active")

    def deactivate_site(self, site: str) -> None:
        """Make a site accept no more jobs; for admins."""
        self._delete(f"admin/sites/{quote_path(site)}/active")

    def images(self) -> list[Image]:
        """Return all registered images."""
        return [Image.model_validate(image) for image in self._get("images")["data"]]

    def image(self, image_id: str) -> Image:
        """Return the registered image of this name."""
        return Image.model_validate(self._get(f"images/{quote_path(image_id)}"))

    def register_image(
        self,
        image_id: str,
        *,
        executable: str | None = None,
        module: str | None = None,
        interpreter: str | None = None,
        from_image: str | None = None,
        urls: Sequence[str] | None = None,
        usage_notes: str | None = None,
        refdata_id: str | None = None,
        default_refdata_mount_point: str | None = None,
        variables: Sequence[str] | None = None,
    ) -> Image:
        """Register an image of a registry, or ``host/NAME`` with an executable or a module; for admins.

        ``interpreter`` is what runs an executable that does not run by itself, such as a file of Python. ``from_image`` is a registered image whose fields are used where none are given here. ``variables`` are those that
        jobs of a ``host/NAME`` may set where several users run it.
        """
        response = self._transport.json(
            "POST",
            f"admin/images/{quote_path(image_id)}",
            params=drop_none(
                refdata_id=refdata_id, default_refdata_mount_point=default_refdata_mount_point
            ),
            json=drop_none(
                executable=executable,
                module=module,
                interpreter=interpreter,
                from_image=from_image,
                urls=None if urls is None else list(urls),
                usage_notes=usage_notes,
                variables=None if variables is None else list(variables),
            ),
        )
        return Image.model_validate(response)

    def delete_image(self, image_id: str) -> None:
        """Unregister an image; for admins."""
        self._delete(f"admin/images/{quote_path(image_id)}")
