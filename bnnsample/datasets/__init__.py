"""Real data with one interface: training and test inputs and targets, standardised."""

from bnnsample.datasets.bundled import DATASETS as DATASETS
from bnnsample.datasets.bundled import Dataset as Dataset
from bnnsample.datasets.bundled import load as load
