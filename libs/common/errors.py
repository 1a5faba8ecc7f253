"""The exceptions of the project; the docstring of each is its message where none is given.

PinstreamError
├── BadSetting          a setting that cannot be used; the service does not start
├── MalformedMessage    a body that is not the message it should be
├── BrokerUnavailable   the broker did not answer in time
├── StreamMissing       the streams were never set up
├── PublishRefused      the broker refused a message; its subclasses say why
│   ├── AlreadyExists   the subject holds a record already
│   ├── Fenced          a newer attempt or the end of the crawl has been recorded
│   └── StreamFull      no room; later there may be
├── CrawlFailed         the site or the browser ended the crawl; carries the reason
├── StartFailed         a service could not start; the message says what to do
├── SessionUnknown      no record of that session is left
└── SequenceUnknown     the log has no such sequence yet
"""

from __future__ import annotations


class PinstreamError(Exception):
    """Something went wrong."""

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message or self.__doc__)


class BadSetting(PinstreamError):
    """A setting cannot be used."""


class MalformedMessage(PinstreamError):
    """A body is not the message that it should be."""


class BrokerUnavailable(PinstreamError):
    """The broker did not answer in time."""


class StreamMissing(PinstreamError):
    """The streams are not set up; run `python -m libs.common.streams`."""


class PublishRefused(PinstreamError):
    """The broker refused the message."""


class AlreadyExists(PublishRefused):
    """The subject holds a record already."""


class Fenced(PublishRefused):
    """A newer attempt at this crawl, or its end, has been recorded."""


class StreamFull(PublishRefused):
    """The stream has no room."""


class StartFailed(PinstreamError):
    """The service could not start."""


class SequenceUnknown(PinstreamError):
    """The log has no such sequence; resume after the last one that was received, or after 0."""


class SessionUnknown(PinstreamError):
    """No record of that session is left."""
