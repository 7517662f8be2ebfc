"""A search over options of a configuration. Each trial is a project."""
