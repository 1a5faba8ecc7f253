"""The version of the interfaces that the gateway offers: the major one is in the paths and in the subprotocol."""

VERSION = "1.1.0"
