"""A stand-in for Pinterest's web front and its CDN. See README.md."""

from .expected import Expected, ExpectedVideo, expected_of, expected_results
from .feeds import board_feed, related_feed, search_feed, section_feed, user_feed
from .running import RunningSite, running_site
from .server import FakePinterest

__all__ = [
    "Expected",
    "ExpectedVideo",
    "FakePinterest",
    "RunningSite",
    "board_feed",
    "expected_of",
    "expected_results",
    "related_feed",
    "running_site",
    "search_feed",
    "section_feed",
    "user_feed",
]
