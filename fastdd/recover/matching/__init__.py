"""The matching family: signals that compare synthetic with real images through networks of their own.

real.py          the real images of each class in a step
networks.py      networks with random weights, a function of (seed, number), that record their features
features.py      means of features of each class (DM, DataDAM, CAFE)
trajectory.py    weights after steps on the synthetic images, against those of experts (MTT, TESLA)
signal_of.py     the signal that a recipe asks for
"""
