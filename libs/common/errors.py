"""The exceptions of the project; the docstring of each is its message where none is given.

PinstreamError
├── BadSetting          a setting that cannot be used; the service does not start
├── MalformedMessage    a body that is not the message it should be
│   └── NewerVersion    it is of a higher version than is known here; another replica may know it
├── BrokerUnavailable   the broker did not answer in time
├── StreamMissing       the streams were never set up
├── PublishRefused      the broker refused a message; its subclasses say why
│   ├── AlreadyExists   the subject holds a record already
│   ├── Fenced          a newer attempt or the end of the crawl has been recorded
│   ├── StreamFull      no room; later there may be
│   ├── Unsendable      it cannot be sent, now or later
│   │   └── TooLarge    more bytes than the broker takes
│   └── PermissionRefused  this user may not; somebody has to change the broker's configuration
├── CrawlFailed         the site or the browser ended the crawl; carries the reason
├── SessionCancelled    the client asked to stop; nothing more is to be done for the session
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


class NewerVersion(MalformedMessage):
    """The body is of a higher version than is known here."""


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


class Unsendable(PublishRefused):
    """The message cannot be sent."""


class TooLarge(Unsendable):
    """The message is larger than the broker takes."""


class PermissionRefused(PublishRefused):
    """The broker's configuration does not let this user do that."""


class SessionCancelled(PinstreamError):
    """The client asked to stop."""


class StartFailed(PinstreamError):
    """The service could not start."""


class SequenceUnknown(PinstreamError):
    """The log has no such sequence; resume after the last one that was received, or after 0."""


class SessionUnknown(PinstreamError):
    """No record of that session is left."""
