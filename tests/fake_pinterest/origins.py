"""Under which addresses the site speaks of itself: its own origin, or the real host names under TLS."""

from __future__ import annotations

from typing import NamedTuple

from starlette.requests import HTTPConnection

from .signatures import sharded


class Origins(NamedTuple):
    site: str
    video: str
    old_video: str
    image: str

    def media(self, template: str, signature: str) -> str:
        """The address of a rendition; some of the legacy family still lie on the old host."""
        host = self.old_video if template.startswith("mc/") and signature[0] in "0123" else self.video
        return f"{host}/videos/{template.format(sharded(signature))}"

    def poster(self, signature: str) -> str:
        return f"{self.image}/videos/thumbnails/originals/{sharded(signature)}.0000000.jpg"

    def picture(self, size: str, signature: str, extension: str = "jpg") -> str:
        return f"{self.image}/{size}/{sharded(signature)}.{extension}"


REAL = Origins("https://www.pinterest.com", "https://v1.pinimg.com", "https://v.pinimg.com", "https://i.pinimg.com")


def origins_of(connection: HTTPConnection) -> Origins:
    if connection.url.scheme == "https":
        return REAL
    own = f"http://{connection.headers.get('host', 'localhost')}"
    return Origins(own, own, own, own)
