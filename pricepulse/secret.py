"""A value that must not be seen: keys, passwords, URLs with a password in them."""

import hmac


class Secret:
    """A value that no repr, log line or traceback shows."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def __repr__(self) -> str:
        return "Secret(***)"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and self.matches(other._value)

    def __hash__(self) -> int:
        return hash(self._value)

    def matches(self, given: str) -> bool:
        """Constant time, so that an answer's delay tells nothing about the key."""
        return hmac.compare_digest(self._value.encode(), given.encode())

    def reveal(self) -> str:
        """The value, for whoever opens a connection or encrypts with it."""
        return self._value
