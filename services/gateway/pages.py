"""The web pages and what they load. Browsers may keep them, and ask each time whether they are still the newest."""

from __future__ import annotations

import os
from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

STATIC = Path(__file__).parent / "static"


class Files(StaticFiles):
    """Those of a folder; without a word of it a browser would run the code of before an update for days."""

    def file_response(
        self, full_path: str | os.PathLike[str], stat_result: os.stat_result, scope: Scope, status_code: int = 200
    ) -> Response:
        """The file, or 304 for who has it."""
        response = super().file_response(full_path, stat_result, scope, status_code)
        response.headers["Cache-Control"] = "no-cache"
        return response


def page_routes() -> list[BaseRoute]:
    """`/`, `/status` and `/docs`, and `/static` with what they load."""
    files = Files(directory=STATIC)

    async def page(request: Request) -> Response:
        """The searches."""
        return await files.get_response("index.html", request.scope)

    async def status(request: Request) -> Response:
        """How the whole is."""
        return await files.get_response("status.html", request.scope)

    async def docs(request: Request) -> Response:
        """The documents that describe the gateway."""
        return await files.get_response("docs.html", request.scope)

    return [Route("/", page), Route("/status", status), Route("/docs", docs), Mount("/static", files)]
