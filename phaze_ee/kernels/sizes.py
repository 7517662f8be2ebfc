"""Whole numbers of the host for launches. Triton's own functions take some microseconds a call, as much as a launch."""


def tiles_of(count: int, size: int) -> int:
    """Return the number of tiles that a count of numbers fills, the last one in part."""
    return -(-count // size)


def power_of_two(number: int) -> int:
    """Return the least power of two that is not less than a number of at least 1."""
    return 1 << (number - 1).bit_length()
