"""A page that is watched while a test uses it: no error in it, and no request that leaves the service."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from playwright.sync_api import ConsoleMessage, Page, Request, Response

TOKEN = "correct horse battery staple"
"""Of the service that asks for one."""


@dataclass
class Watched:
    """A page, and what went wrong in it.

    Attributes:
        page: the page.
        allowed: HTTP statuses of 400 and above that a test expects.
        wrong: errors of the console and of scripts, failed and foreign requests, other statuses.
    """

    page: Page
    origin: str
    allowed: set[int] = field(default_factory=set)
    wrong: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.page.on("console", self._console)
        self.page.on("pageerror", lambda error: self.wrong.append(f"script: {error}"))
        self.page.on("request", self._request)
        self.page.on("response", self._response)

    def open(self, path: str = "/") -> Page:
        """Go to an address of the service."""
        self.page.goto(self.origin + path)
        return self.page

    def _console(self, message: ConsoleMessage) -> None:
        # Statuses are looked at one by one.
        of_status = message.text.startswith(("Failed to load resource", "Response Status Error Code"))
        if message.type in ("error", "warning") and not of_status:
            self.wrong.append(f"console: {message.text}")

    def _request(self, request: Request) -> None:
        if not request.url.startswith((f"{self.origin}/", "data:", "blob:")):
            self.wrong.append(f"foreign request: {request.url}")

    def _response(self, response: Response) -> None:
        if response.status >= 400 and response.status not in self.allowed:
            self.wrong.append(f"{response.status} {response.url}")


Opener = Callable[..., Watched]
"""Opens a page of the service at an address, with options of Playwright's new_context."""
