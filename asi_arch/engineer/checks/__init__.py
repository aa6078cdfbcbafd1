"""The gates before training: each runs the graphs and gives one line of verdict.

All run on what was measured to cross the wall, in float64 where exactness matters: there, our
operators and torch's leave differences of rounding only (1e-15), so a leak of 1e-9 stands out.
"""
