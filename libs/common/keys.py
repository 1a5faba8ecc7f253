"""API keys: `ps_<id>_<secret>`. The bucket `access` has a record of each, with its secret's digest, never the secret.

A secret is 256 random bits, so that one plain SHA-256 of it can be kept: there is nothing to guess.
"""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import AsyncIterator
from hashlib import sha256
from hmac import compare_digest
from typing import NamedTuple

from msgspec.structs import replace

from libs.common import subjects
from libs.common.bus import Bus, Fence, Stored
from libs.common.errors import Fenced, MalformedMessage, PinstreamError
from libs.common.messages import AccessKey, decode, encode

KEY = re.compile(r"ps_(?P<id>[0-9a-f]{16})_(?P<secret>[A-Za-z0-9_-]{43})")
ID = re.compile(r"[0-9a-f]{16}")
OWNER = re.compile(r"[A-Za-z0-9_.@-]{1,64}")
MOST_NAME = 80
READ_BATCH = 256
TRIES = 5


class NoSuchKey(PinstreamError):
    """There is no key of that id."""


class Made(NamedTuple):
    """A key that was made now: `text` is shown once and kept nowhere."""

    text: str
    record: AccessKey


def digest(secret: str) -> str:
    """What is kept of a secret."""
    return sha256(secret.encode()).hexdigest()


async def create(bus: Bus, name: str, *, owner: str | None = None, lasts_s: float | None = None) -> Made:
    """A new key, which every gateway knows at once; by default its sessions are its own alone."""
    id_, secret, now = secrets.token_hex(8), secrets.token_urlsafe(32), time.time()
    record = AccessKey(
        id=id_,
        name=name[:MOST_NAME],
        owner=owner or id_,
        digest=digest(secret),
        created_at=now,
        expires_at=None if lasts_s is None else now + lasts_s,
    )
    await bus.publish(subjects.access_key(id_), encode(record), create=True)
    return Made(f"ps_{id_}_{secret}", record)


async def keys(bus: Bus) -> AsyncIterator[AccessKey]:
    """All keys, the oldest first, revoked ones too; what cannot be read is passed over."""
    found = [key async for stored in stored_keys(bus) if (key := key_of(stored)) is not None]
    for key in sorted(found, key=lambda key: key.created_at):
        yield key


async def stored_keys(bus: Bus) -> AsyncIterator[Stored]:
    """The records as they are kept; a replica that lags may not have the newest."""
    after = 0
    while batch := await bus.read(subjects.ACCESS, subjects.ALL_ACCESS_KEYS, after + 1, READ_BATCH):
        after = batch[-1].sequence
        for stored in batch:
            yield stored


def key_of(stored: Stored) -> AccessKey | None:
    """The key in a record, if there is one: it may have been deleted by another tool."""
    try:
        return decode(stored.body, AccessKey)
    except MalformedMessage:
        return None


async def revoke(bus: Bus, id_: str) -> AccessKey:
    """Ends a key for good; its open connections are closed. Raises NoSuchKey."""
    if not ID.fullmatch(id_):
        raise NoSuchKey(f"there is no key {id_[:MOST_NAME]}")
    subject = subjects.access_key(id_)
    for _ in range(TRIES):
        stored = await bus.last(subjects.ACCESS, subject)
        key = None if stored is None else key_of(stored)
        if stored is None or key is None:
            raise NoSuchKey(f"there is no key {id_}")
        if key.revoked_at is not None:
            return key
        revoked = replace(key, revoked_at=time.time())
        try:
            await bus.publish(subject, encode(revoked), fence=Fence(subject, stored.sequence))
        except Fenced:
            continue
        return revoked
    raise PinstreamError(f"the key {id_} is being changed by others; try again")


def usable(key: AccessKey | None, secret: str, now: float) -> bool:
    """Whether `key` is that of `secret`, and may be used at `now`."""
    same = compare_digest(digest(secret), key.digest if key is not None else digest(""))
    return key is not None and same and valid(key, now)


def valid(key: AccessKey, now: float) -> bool:
    """Whether `key` may be used at `now`."""
    return key.revoked_at is None and (key.expires_at is None or now < key.expires_at)
