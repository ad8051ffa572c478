"""The data plane: videos become shards, shards become batches of clips. Knows videos, not networks."""
