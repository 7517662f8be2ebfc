"""A fuzzer of the whole command: damaged and unexpected inputs, each in a child process of its own."""
