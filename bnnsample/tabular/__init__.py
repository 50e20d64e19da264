"""Tables with names: a file is read, its columns become numbers, and predictions go back to units.

What the command line does with a table; the estimators of scikit-learn fit scales as it does.
"""
