"""What a service allows, and to whom."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import ip_address

from kineme.retrieval.errors import RetrievalError


@dataclass(frozen=True)
class ServiceSettings:
    """Bounds of a service. Those of what a decoder may take are the Studio's.

    Attributes:
        token: what clients must show; None: whoever reaches the loopback address is welcome.
        upload_bytes: of one request with a file.
        upload_s: seconds in which its body must have come.
        uploads: requests with a file in work at once.
        json_bytes: of any other body.
        hits: the largest k.
        samples: futures of one prediction, at most.
        horizon: frames of one future, at most.
        queue: searches that may wait for a processor; more are sent away.
        slow_queue: the same of what decoders and networks do, which takes longer.
        session_s: seconds for which a browser that showed the token is remembered.
    """

    token: str | None = None
    upload_bytes: int = 64 << 20
    upload_s: float = 60.0
    uploads: int = 8
    json_bytes: int = 8 << 20
    hits: int = 1000
    samples: int = 16
    horizon: int = 200
    queue: int = 1000
    slow_queue: int = 32
    session_s: float = 12 * 3600.0

    def __post_init__(self) -> None:
        # A header loses the spaces at its ends.
        if (token := self.token) is not None and not (
            token.isascii() and token.isprintable() and "" != token == token.strip()
        ):
            raise RetrievalError("--token: printable ASCII characters are needed, at least one, and no space at an end")
        for name, value in vars(self).items():
            if name != "token" and not value > 0:
                raise RetrievalError(f"{name} {value}: more than 0 is needed")


def check_address(host: str, token: str | None) -> None:
    """Refuse to be reached from other machines by whoever likes.

    Raises:
        RetrievalError: the address is none of this machine's own (loopback) ones, and there is no token.
    """
    if token is None and not is_loopback(host):
        raise RetrievalError(
            f"--host {host}: other machines reach this address, so a token is needed; set KINEME_TOKEN, or stay with "
            "127.0.0.1"
        )


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches an address; of names, localhost alone is known to be such."""
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"
