"""When bets begin: a half of a capital before the first look, and a part of 1/(2c(c+1)) after each look c.

So a change is found that comes late. Of the bets, the first and some later ones are kept, so that for any look there is
one not much older; what the others would have gained is given up. The sum never exceeds the capital of all of them.
"""


def share_of(start: int) -> float:
    """Return the part of the capital of bets that begin after this many looks."""
    return 0.5 / (start * (start + 1)) if start else 0.5


def kept_starts(now: int) -> list[int]:
    """Return the starts of the bets that are kept after this many looks, from the first.

    They are 0, and those after 2^k, 3·2^k, 5·2^k … looks while younger than 4·2^k.
    """
    kept = [0]
    for place in range(now.bit_length()):
        odd = (now >> place) - 1 | 1
        kept += [start for factor in (odd - 2, odd) if factor > 0 and now - (start := factor << place) < 4 << place]
    return sorted(kept)
