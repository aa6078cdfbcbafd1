"""A space without torch: rules that fit a curve, the tutorial, and what the loop's own tests run on."""
