"""A recipe that has a section of each kind, for tests of what people write in one."""

SMALL = """\
ipc: 1
data: {root: digits, channels: 1}
teacher: {network: resnet8, mean: [0.305], std: [0.376], epochs: 1, pad: 1}
method: {steps: 2}
arms: {deda: {method: deda}, plain: {lr: 0.1, terms: {ce: {}}}}
committee: {second: {network: resnet8, mean: [0.305], std: [0.376]}}
students: {other: {network: convnet1}}
student: {network: resnet8, steps: 2, batch: 10, pad: 1, seeds: 1}
"""
"""its arms, its committee and its students have names of the user's"""
