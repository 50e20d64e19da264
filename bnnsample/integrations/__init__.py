"""Other libraries, both ways: our posteriors as their models, their models in our posteriors."""
