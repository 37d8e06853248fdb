"""The service itself: who it is, how it does, where it runs jobs, and its images."""

from __future__ import annotations

from collections.abc import Sequence

from cts_jupyter.client.api.base import Endpoints, given, in_path
from cts_jupyter.client.models import Health, Image, Readiness, Root, Site, WhoAmI


class ServiceEndpoints(Endpoints):
    """What is not about jobs and files."""

    def root(self) -> Root:
        """What the service says of itself."""
        return Root.model_validate(self._get(""))

    def whoami(self) -> WhoAmI:
        """What the service knows of us."""
        return WhoAmI.model_validate(self._get("whoami"))

    def health(self) -> Health:
        """Whether the service lives."""
        return Health.model_validate(self._get("health"))

    def ready(self) -> Readiness:
        """Whether the service's dependencies can be used. A service that is not ready refuses with 503."""
        return Readiness.model_validate(self._get("ready"))

    def metrics(self) -> str:
        """The service's figures in Prometheus' text format, for admins."""
        with self._transport.stream("GET", "metrics") as response:
            return b"".join(self._transport.pieces(response)).decode()

    def sites(self) -> list[Site]:
        """The sites where jobs run."""
        return [Site.model_validate(site) for site in self._get("sites")["sites"]]

    def activate_site(self, site: str) -> None:
        """Let a site take jobs; for admins."""
        self._put(f"admin/sites/{in_path(site)}/active")

    def deactivate_site(self, site: str) -> None:
        """Let a site take no more jobs; for admins."""
        self._delete(f"admin/sites/{in_path(site)}/active")

    def images(self) -> list[Image]:
        """All registered images."""
        return [Image.model_validate(image) for image in self._get("images")["data"]]

    def image(self, image_id: str) -> Image:
        """The registered image of this name."""
        return Image.model_validate(self._get(f"images/{in_path(image_id)}"))

    def register_image(
        self,
        image_id: str,
        *,
        executable: str | None = None,
        module: str | None = None,
        from_image: str | None = None,
        urls: Sequence[str] | None = None,
        usage_notes: str | None = None,
        refdata_id: str | None = None,
        default_refdata_mount_point: str | None = None,
    ) -> Image:
        """Register an image of a registry, or ``host/NAME`` with an executable or a module; for admins.

        ``from_image`` is a registered image that the rest is taken from where it is not given here.
        """
        answer = self._transport.json(
            "POST",
            f"admin/images/{in_path(image_id)}",
            params=given(
                refdata_id=refdata_id, default_refdata_mount_point=default_refdata_mount_point
            ),
            json=given(
                executable=executable,
                module=module,
                from_image=from_image,
                urls=None if urls is None else list(urls),
                usage_notes=usage_notes,
            ),
        )
        return Image.model_validate(answer)

    def delete_image(self, image_id: str) -> None:
        """Unregister an image; for admins."""
        self._delete(f"admin/images/{in_path(image_id)}")
