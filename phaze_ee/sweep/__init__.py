"""A search over options of a configuration; each trial is a project of its own."""
