"""Selection: which experiment is the next proposal's parent, and which are its references."""
