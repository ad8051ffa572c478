"""What Prometheus reads at /metrics."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from kineme.retrieval.service.library import Library
from kineme.retrieval.service.studio import Refusal

MEDIA_TYPE = CONTENT_TYPE_LATEST


class Metrics:
    """Counters of one service, in a registry of its own.

    Args:
        library: whose size and generation are told.
    """

    def __init__(self, library: Library) -> None:
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        self._requests = Counter("kineme_requests", "Requests answered.", ["route", "status"], registry=self._registry)
        self._seconds = Histogram(
            "kineme_request_seconds", "From a request to the end of its answer.", ["route"], registry=self._registry
        )
        self._refused = Counter(
            "kineme_uploads_refused", "Uploads refused, by reason.", ["reason"], registry=self._registry
        )
        clips = Gauge("kineme_clips", "Clips of the open index.", registry=self._registry)
        clips.set_function(lambda: library.current().index.count)
        generation = Gauge("kineme_index_generation", "Generation of the open index.", registry=self._registry)
        generation.set_function(lambda: library.current().generation)

    def answered(self, route: str, status: int, seconds: float) -> None:
        """Count a request: the pattern of its route, the status and the time of its answer."""
        self._requests.labels(route, str(status)).inc()
        self._seconds.labels(route).observe(seconds)

    def refused(self, refusal: Refusal) -> None:
        """Count an upload that was refused."""
        self._refused.labels(refusal).inc()

    def page(self) -> bytes:
        """All of it, in Prometheus' text format."""
        return generate_latest(self._registry)
