"""How good predictions are: scores against targets that were held out, and checks of the model."""
