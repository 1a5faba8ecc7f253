"""Headers are read as the client library reads them, only faster."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from nats.aio.client import Client

from libs.common.bus import _Client

LINES = st.lists(
    st.one_of(
        st.binary(max_size=20),
        st.tuples(
            st.sampled_from(
                [b"traceparent", b"Nats-Sequence", b"", b" ", b"A B", b"A\tB", b"\x1cA", b"\xc3\xa9", b"A\x0bB"]
            ),
            st.sampled_from([b":", b": ", b":\t", b" : ", b"::"]),
            st.binary(max_size=20),
        ).map(b"".join),
    )
)


@given(LINES)
def test_headers_are_what_the_library_makes_of_them(lines: list[bytes]) -> None:
    raw = b"\r\n".join(lines)
    assert _Client._parse_header_lines(raw) == Client._parse_header_lines(raw)
