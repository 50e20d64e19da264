"""Estimators of scikit-learn: sampled Bayesian networks and their infinitely wide limits.

Inputs are standardised inside, scales are fitted by the evidence, and all is computed in float64
whatever JAX is set to. Importing this is what needs scikit-learn's conventions; nothing else does.
"""

from bnnsample.sklearn.classification import BNNClassifier as BNNClassifier
from bnnsample.sklearn.limit import NNGPClassifier as NNGPClassifier
from bnnsample.sklearn.limit import NNGPRegressor as NNGPRegressor
from bnnsample.sklearn.regression import BNNRegressor as BNNRegressor
