"""The matching family: signals that compare synthetic with real images through networks of their own.

real.py           the real images of each class in a step
networks.py       networks with random weights, a function of (seed, number), that record their features
inner.py          the network of each step, and its training between the steps
features.py       means of features of each class (DM, DataDAM, CAFE)
gradients.py      gradients of the weights, class by class (DC, DSA, IDC)
trajectory.py     weights after steps on the synthetic images, against those of experts (MTT, TESLA)
kernel.py         kernel ridge regression from synthetic onto real images (KIP)
added.py          terms through a teacher, or DiRe through the network of a step
signal_of.py      the signal that a recipe asks for
"""
