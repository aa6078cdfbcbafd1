"""Proof by interpretation: what each element of a graph's output can depend on, whatever the weights are.

A graph is run on labels instead of numbers. A label says which position (or row) of the input an
element depends on at the latest; 0 says on none. Elements whose value is known exactly, such as the
zeros of a constant mask, are followed too, because a product with a known zero depends on nothing. So
a closed gate or a tiny factor hides nothing, and what holds for the labels holds for all finite
inputs and all parameters.
"""
