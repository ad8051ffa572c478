"""One file for each kind of source: what turns a place on disk into items to ingest."""
