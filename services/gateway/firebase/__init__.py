"""Firebase Realtime Database, as its clients speak it: a read-only tree of sessions, and requests that begin them."""
