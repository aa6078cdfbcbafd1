"""One way to ask any language model for a typed answer."""
