"""Maps of the readout under which the posterior of a wide network looks like its prior."""
