"""JWTs of an identity provider: whose they are, if its keys signed them, for us, and they have not expired."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import httpx2
import structlog
from joserfc import jwt
from joserfc.errors import InvalidKeyIdError, JoseError
from joserfc.jwk import Key, KeySet
from joserfc.jws import extract_compact

from libs.common.errors import BrokerUnavailable
from libs.common.tasks import end
from services.gateway.access_settings import AccessSettings
from services.gateway.callers import Caller, TokenRefused

FETCH_S = 10.0
MOST_BYTES = 1024 * 1024  # of a set of keys
MOST_TOKEN = 8192  # characters
MOST_SUBJECT = 256
UNKNOWN_KEY_S = 10.0  # a key that is not known is looked for this often at most: whoever sends one must not cost much
MOST_TRIED = 8  # keys, on a token that names none

log = structlog.get_logger()


class KeysUnavailable(BrokerUnavailable):  # which every way in bears already
    """The keys of tokens cannot be had now."""


class Tokens:
    """Use `tokens`. Keys that were known last hold while new ones cannot be had."""

    def __init__(self, settings: AccessSettings) -> None:
        self.settings = settings
        self._keys: KeySet | None = None
        self._looked_at = float("-inf")
        self._looking = asyncio.Lock()
        self._claims = jwt.JWTClaimsRegistry(
            leeway=settings.jwt_leeway_s,
            exp={"essential": True},
            iss={"essential": True, "value": settings.jwt_issuer or ""},
            aud={"essential": True, "value": settings.jwt_audience or ""},
            sub={"essential": True},
        )

    async def caller(self, token: str) -> Caller:
        """Whose the token is. Raises TokenRefused, whose reason never repeats the token, or KeysUnavailable."""
        if self._keys is None:
            await self._look(UNKNOWN_KEY_S)
        try:
            claims = self._verified(token)
        except InvalidKeyIdError:
            await self._look(UNKNOWN_KEY_S)
            try:
                claims = self._verified(token)
            except JoseError as error:
                raise TokenRefused(f"the token is not accepted: {error.error}") from error
        except JoseError as error:
            raise TokenRefused(f"the token is not accepted: {error.error}") from error
        subject = claims["sub"]
        if not isinstance(subject, str) or not 0 < len(subject) <= MOST_SUBJECT:
            raise TokenRefused("the token is not accepted: it names nobody")
        until = claims["exp"] + self.settings.jwt_leeway_s
        return Caller(owner=f"jwt:{self.settings.jwt_issuer}:{subject}", until=until)

    def _verified(self, token: str) -> dict[str, Any]:
        if self._keys is None:
            raise KeysUnavailable
        if len(token) > MOST_TOKEN:
            raise TokenRefused("the token is not accepted: it is too long")
        try:
            claims = self._decoded(token, self._keys)
            self._claims.validate(claims)
            claims["exp"] = float(claims["exp"])
        except (ValueError, TypeError, OverflowError, RecursionError) as error:
            raise TokenRefused("the token is not accepted: it cannot be read") from error
        return claims

    def _decoded(self, token: str, keys: KeySet) -> dict[str, Any]:
        *others, last = _fitting(token, keys)
        for one in others:
            with suppress(JoseError):
                return jwt.decode(token, one, algorithms=self.settings.jwt_algorithms).claims
        return jwt.decode(token, last, algorithms=self.settings.jwt_algorithms).claims

    async def _look(self, since_s: float) -> None:
        """Reads the keys again, unless that was done within `since_s`."""
        async with self._looking:
            if time.monotonic() - self._looked_at < since_s:
                return
            self._looked_at = time.monotonic()
            try:
                self._keys = KeySet.import_key_set(json.loads(await self._read()))
            except (OSError, ValueError, KeyError, TypeError, JoseError, httpx2.HTTPError) as error:
                log.error("the keys of tokens cannot be had", error=_told(error))

    async def _read(self) -> bytes:
        if self.settings.jwks_file:
            return await asyncio.to_thread(Path(self.settings.jwks_file).read_bytes)
        assert self.settings.jwks_url is not None
        async with (
            httpx2.AsyncClient(timeout=FETCH_S, follow_redirects=False) as client,
            client.stream("GET", self.settings.jwks_url) as answer,
        ):
            answer.raise_for_status()
            body = b""
            async for part in answer.aiter_bytes():
                body += part
                if len(body) > MOST_BYTES:
                    raise ValueError("it is too long")
            return body

    async def keep(self) -> None:
        """Reads the keys at an interval, until cancelled."""
        while True:
            await asyncio.sleep(self.settings.jwks_refresh_s)
            await self._look(0)


def _fitting(token: str, keys: KeySet) -> list[Key] | list[KeySet]:
    """Those that may have signed a token; all as one, to be chosen from by its name, where it names one."""
    header = extract_compact(token.encode()).headers()
    if header.get("kid") is not None or len(keys.keys) == 1:
        return [keys]
    kinds = KeySet.algorithm_keys.get(header["alg"], [])
    of_kind = [one for one in keys.keys if one.key_type in kinds]
    signing = [one for one in of_kind if one.get("use") in (None, "sig") and one.get("alg") in (None, header["alg"])]
    return signing[:MOST_TRIED] or [keys]


def _told(error: Exception) -> str:
    """Without the address, which may hold a secret."""
    if isinstance(error, httpx2.HTTPStatusError):
        return f"the answer was {error.response.status_code}"
    return f"{type(error).__name__}: {error}"


@asynccontextmanager
async def tokens(settings: AccessSettings) -> AsyncIterator[Tokens | None]:
    """The tokens that `settings` accept, None where they name no keys; the keys are kept up to date meanwhile."""
    if not (settings.jwks_file or settings.jwks_url):
        yield None
        return
    found = Tokens(settings)
    await found._look(0)
    task = asyncio.create_task(found.keep(), name="jwks")
    try:
        yield found
    finally:
        await end(task)
