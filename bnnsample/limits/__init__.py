"""What infinitely wide networks are: kernels, Gaussian-process posteriors, evidence."""
