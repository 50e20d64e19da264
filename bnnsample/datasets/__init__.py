"""Real data with one interface: training and test inputs and targets, standardised."""

from bnnsample.datasets.bundled import DATASETS as DATASETS
from bnnsample.datasets.bundled import Dataset as Dataset
from bnnsample.datasets.bundled import load as load
from bnnsample.datasets.cifar10 import load_cifar10 as load_cifar10
