"""Studies of the objectives on made-up data: one file a study, each from its settings to figures and a picture."""
