"""The HTTP service: an index of clips, searched and looked at. Never imports a network or a decoder."""
