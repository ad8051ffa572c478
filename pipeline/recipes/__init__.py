"""The recipes that come with kineme, as YAML."""
