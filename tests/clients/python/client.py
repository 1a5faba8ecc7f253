"""A genuine Firebase client, told by lines of JSON on its input what to do; what it sees it writes as lines of JSON.

`python client.py admin|pyrebase http://host:port`, in an environment of its own: this file imports nothing of ours.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from typing import Any

KIND, ORIGIN = sys.argv[1:3]
_turn = threading.Lock()


def say(**line: Any) -> None:
    with _turn:
        print(json.dumps(line), flush=True)


class Admin:
    """PyPI `firebase-admin`, as it speaks to an emulator: that is how it takes an address without https."""

    def __init__(self) -> None:
        os.environ["FIREBASE_DATABASE_EMULATOR_HOST"] = ORIGIN.removeprefix("http://")
        import firebase_admin
        from firebase_admin import db

        firebase_admin.initialize_app(options={"databaseURL": f"{ORIGIN}/?ns=pinstream", "projectId": "pinstream"})
        self.db = db

    def _selected(self, path: str, query: dict[str, Any] | None) -> Any:
        found = self.db.reference(path)
        if query is not None:
            found = found.order_by_key()
            for name, value in query.items():
                found = getattr(found, name)(value)
        return found

    def listen(self, path: str) -> None:
        self.db.reference(path).listen(lambda event: say(event=event.event_type, path=event.path, data=event.data))

    def get(self, path: str, query: dict[str, Any] | None = None) -> None:
        say(got=self._selected(path, query).get())

    def push(self, value: Any) -> None:
        say(pushed=self.db.reference("requests").push(value).key)

    def set(self, path: str, value: Any) -> None:
        self.db.reference(path).set(value)


class Pyrebase:
    """PyPI `pyrebase4`."""

    def __init__(self) -> None:
        import pyrebase

        config = {"apiKey": "none", "authDomain": "none", "storageBucket": "none", "databaseURL": ORIGIN}
        self.firebase = pyrebase.initialize_app(config)

    def _at(self, path: str) -> Any:
        return self.firebase.database().child(path)

    def listen(self, path: str) -> None:
        self._at(path).stream(lambda event: say(event=event["event"], path=event["path"], data=event["data"]))

    def get(self, path: str, query: dict[str, Any] | None = None) -> None:
        found = self._at(path)
        if query is not None:
            found = found.order_by_key()
            for name, value in query.items():
                found = getattr(found, name)(value)
        say(got=found.get().val())

    def push(self, value: Any) -> None:
        say(pushed=self._at("requests").push(value)["name"])

    def set(self, path: str, value: Any) -> None:
        self._at(path).set(value)


def main() -> None:
    client = Admin() if KIND == "admin" else Pyrebase()
    say(ready=KIND)
    for line in sys.stdin:
        given = json.loads(line)
        try:
            getattr(client, given.pop("op"))(**given)
        except Exception as error:
            say(refused=str(error))
    os._exit(0)  # the threads of its streams do not end by themselves


main()
