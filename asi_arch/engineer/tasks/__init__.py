"""The tasks that models are trained and measured on, one module each, found by listing this folder."""
