"""Recipes and overrides that are refused: each names the key, and what was typed there.

A row of a table is what is typed, an arrow, and the parts of the message that it must have. Several overrides
stand in one row where one alone is right.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from _pytest.mark import ParameterSet
from small_recipe import SMALL

from fastdd.errors import InputError
from fastdd.recipes.resolve import resolve

KEYS = """\
ipcc=3 -> unknown key 'ipcc'
student.stepz=3 -> unknown key 'student.stepz'
teacher.netwrk=resnet8 -> unknown key 'teacher.netwrk'
data.rooot=x -> unknown key 'data.rooot'
method.gama=1 -> unknown key 'method.gama'
arms.dedaa.steps=3 -> arms.dedaa.steps: unknown arm 'dedaa' (did you mean 'deda'?)
arms.deda.stepz=3 -> unknown key 'arms.deda.stepz'
arms.deda.committee=second -> arms.deda.committee: input should be a list in brackets, got 'second'
method.committee=[third] -> arms.deda.committee: there is no further teacher 'third'; committee: second
arms.deda=3 -> 'arms.deda' is a section
arms=3 -> 'arms' is a section
arms.=3 -> 'arms.' is a section
committee.second.lrr=1 -> unknown key 'committee.second.lrr'
committee.third.lr=1 -> committee.third.lr: unknown further teacher 'third'
students.another.lr=1 -> students.another.lr: unknown student 'another' (did you mean
students.other=3 -> 'students.other' is a section
students.other.lrr=0.1 -> unknown key 'students.other.lrr'
=3 -> unknown key ''
.=3 -> unknown key '.'
ipc.=3 -> unknown key 'ipc.'
.ipc=3 -> unknown key '.ipc'
a.b.c=3 -> unknown key 'a.b.c'
network=resnet8 -> 'network' is ambiguous: it may mean teacher.network,
lr=0.1 -> 'lr' is ambiguous: it may mean teacher.lr, experts.lr,
weight=3 -> 'weight' is ambiguous: it may mean method.terms.ce.weight,
batch=2 -> 'batch' is ambiguous: it may mean teacher.batch, bank.batch,
IPC=3 -> unknown key 'IPC'
method.terms.cee.weight=1 -> unknown key 'method.terms.cee.weight'
method.terms.ce.wait=1 -> unknown key 'method.terms.ce.wait'
method.match.gradient.metric=rows -> unknown key 'method.match.gradient.metric'
sweep.keys=[a] -> 'sweep.keys' is of the section sweep, which no override changes
sweep=a -> 'sweep' is of the section sweep, which no override changes
student_arms={other: [deda]} -> 'student_arms' is of the section student_arms, & write it in a .yaml file
student_arms.other=[deda] -> 'student_arms.other' is of the section student_arms
published.coverage.deda=1 -> 'published.coverage.deda' is of the section published
__class__=3 -> unknown key '__class__'
ключ=3 -> unknown key 'ключ'
ipc -> override 'ipc' must look like key=value, for example ipc=10
--ipc=3 -> unknown key '--ipc'
ipc:3 -> override 'ipc:3' must look like key=value, for example ipc=10
"""

VALUES = """\
ipc=0 -> ipc: & got 0
ipc=-1 -> ipc: & got -1
ipc=1.5 -> ipc: & got 1.5
ipc=ten -> ipc: & got 'ten'
ipc= -> ipc: & got null
ipc=[1] -> ipc: & got [1]
ipc={a: 1} -> ipc: & got {'a': 1}
ipc=2147483648 -> ipc: & got 2147483648
seed=-1 -> seed: & got -1
seed=9223372036854775808 -> seed: & got 9223372036854775808
seed=1.0 -> seed: & got 1.0
data.size=0 -> data.size: & got 0
data.size=1000000 -> data.size: & got 1000000
bank.patch=2147483647 -> bank.patch: & got 2147483647
student.pad=2147483647 -> student.pad: & got 2147483647
data.size=eight -> data.size: & got 'eight'
data.resize=-3 -> data.resize: & got -3
data.channels=2 -> data.channels: & got 2
data.channels=1.0 -> data.channels: & got 1.0
data.channels=true -> data.channels: & got true
data.channels=three -> data.channels: & got 'three'
teacher.epochs=0 -> teacher.epochs: & got 0
teacher.batch=0 -> teacher.batch: & got 0
teacher.snapshots=1 -> teacher.snapshots: input should be a list in brackets, got 1
teacher.snapshots=[9] -> teacher: snapshots must be rising epochs of the 1 & such as [1], got [9]
metrics.features=clip: -> metrics.features: expected clip:FILE & got 'clip:'
method.sizes=[] -> arms.deda.sizes: input should be a list of at least one item, got []
teacher.lr=0 -> teacher.lr: & got 0
teacher.lr=-0.1 -> teacher.lr: & got -0.1
teacher.lr=nan -> teacher.lr: & got 'nan'
teacher.lr=.inf -> teacher.lr: & got inf
teacher.lr=1e999 -> teacher.lr: & got inf
teacher.lr=fast -> teacher.lr: & got 'fast'
teacher.lr=true -> teacher.lr: & got true
teacher.momentum=1 -> teacher.momentum: & got 1
teacher.momentum=-0.1 -> teacher.momentum: & got -0.1
teacher.warmup=1.0 -> teacher.warmup: & got 1.0
teacher.weight_decay=-1e-4 -> teacher.weight_decay: & got -0.0001
teacher.label_smoothing=1.1 -> teacher.label_smoothing: & got 1.1
teacher.flip=2 -> teacher.flip: & got 2
teacher.pad=-1 -> teacher.pad: & got -1
teacher.ema=1 -> teacher.ema: & got 1
teacher.minimum_accuracy=98 -> teacher.minimum_accuracy: & got 98
teacher.mean=0.3 -> teacher.mean: & got 0.3
teacher.mean=[] -> committee.second has another mean or std than teacher
teacher.mean=[0.1, 0.2] -> committee.second has another mean or std than teacher
teacher.mean=[a] -> teacher.mean.0: & got 'a'
teacher.std=[0] -> teacher.std.0: & got 0
teacher.std=[-1] -> teacher.std.0: & got -1
teacher.std=[0.1, 0.2, 0.3] -> committee.second has another mean or std than teacher
teacher.nesterov=1 -> teacher.nesterov: & got 1
teacher.nesterov=yes -> teacher.nesterov: & got 'yes'
teacher.scale=[0.5, 0.1] -> teacher: & got [0.5, 0.1]
teacher.scale=[0, 1] -> teacher: & got [0.0, 1.0]
teacher.scale=[0.1] -> teacher.scale.1: & got [0.1]
teacher.scale=[0.1, 0.2, 0.3] -> teacher.scale: & got [0.1, 0.2, 0.3]
teacher.scale=0.5 -> teacher.scale: & got 0.5
bank.batch=0 -> bank.batch: & got 0
bank.rank=0 -> bank.rank: & got 0
bank.embeddings=-1 -> bank.embeddings: & got -1
bank.embeddings=some -> bank.embeddings: & got 'some'
bank.shard_mb=0 -> bank.shard_mb: & got 0
bank.patch=0 -> bank.patch: & got 0
experts.count=0 -> experts.count: & got 0
experts.keep=0 -> experts.keep: & got 0
experts.keep=never -> experts.keep: & got 'never'
experts.lr=0 -> experts.lr: & got 0
experts.images_per_class=0 -> experts.images_per_class: & got 0
experts.group=0 -> experts.group: & got 0
recover.unit_images=0 -> recover.unit_images: & got 0
recover.unit_images=lots -> recover.unit_images: & got 'lots'
recover.log_every=0 -> recover.log_every: & got 0
recover.checkpoint_every=0 -> recover.checkpoint_every: & got 0
recover.compile=maybe -> recover.compile: & got 'maybe'
recover.capture=maybe -> recover.capture: & got 'maybe'
labels.topk=0 -> labels.topk: & got 0
labels.epochs=0 -> labels.epochs: & got 0
labels.keep=0 -> labels.keep: & got 0
labels.keep=1.5 -> labels.keep: & got 1.5
labels.form=top-k -> labels.form: & got 'top-k' (did you mean 'topk'?)
student.schedule=cosin -> student.schedule: & got 'cosin' (did you mean 'cosine'?)
method.init=kmean -> arms.deda.init: & got 'kmean' (did you mean 'kmeans'?)
data.evaluate=tset -> data.evaluate: & got 'tset' (did you mean 'test'?)
data.evaluate=test -> data: evaluate is test, but validation is null & leave evaluate out, or set
labels.parts=0 -> labels.parts: & got 0
labels.batch=0 -> labels.batch: & got 0
metrics.nearest_k=0 -> metrics.nearest_k: & got 0
metrics.full_set=often -> metrics.full_set: & got 'often'
method.steps=-1 -> arms.deda.steps: & got -1
method.lr=0 -> arms.deda.lr: & got 0
method.betas=[0.5] -> arms.deda.betas.1: & got [0.5]
method.betas=[0.5, 1] -> arms.deda.betas.1: & got 1
method.betas=0.5 -> arms.deda.betas: & got 0.5
method.momentum=1 -> arms.deda.momentum: & got 1
method.save.quality=0 -> arms.deda.save.quality: & got 0
method.save.quality=101 -> arms.deda.save.quality: & got 101
method.augment.flip=-0.5 -> arms.deda.augment.flip: & got -0.5
method.augment.pad=-1 -> arms.deda.augment.pad: & got -1
method.augment.milestone=0 -> arms.deda.augment.milestone: & got 0
method.augment.roll=[4, 0] -> arms.deda.augment: & got [4, 0]
method.augment.roll=4 -> arms.deda.augment.roll: & got 4
method.augment.roll=[0.5, 1] -> arms.deda.augment.roll.0: & got 0.5
method.augment.scale=[0, 0.5] -> arms.deda.augment: & got [0.0, 0.5]
method.augment.scale=[0.9, 0.5] -> arms.deda.augment: & got [0.9, 0.5]
method.rded.factor=0 -> arms.deda.rded.factor: & got 0
method.rded.images=0 -> arms.deda.rded.images: & got 0
method.rded.area=[0.5, 0.2] -> arms.deda.rded: & got [0.5, 0.2]
method.batch.classes=0 -> arms.deda.batch.classes: & got 0
method.batch.slots=none -> arms.deda.batch.slots: & got 'none'
method.ensemble=0 -> arms.deda.ensemble: & got 0
method.ensemble=best -> arms.deda.ensemble: & got 'best'
data.root= -> data.root: & got ''
data.backend=pil -> data.backend: & got 'pil'
data.on_error=ignore -> data.on_error: & got 'ignore'
data.fingerprint=md5 -> data.fingerprint: & got 'md5'
committee.second.scores=x -> committee.second.scores is not read, since arms rank by teacher.scores alone
data.validation=0 -> data.validation: & got 0
data.validation=1 -> data.validation: & got 1
data.validation=-0.1 -> data.validation: & got -0.1
data.validation=half -> data.validation: & got 'half'
data.validation_seed=-1 -> data.validation_seed: & got -1
data.evaluate=train -> data.evaluate: & got 'train'
data.follow_links=2 -> data.follow_links: & got 2
teacher.network= -> teacher.network: & got ''
teacher.schedule=linear -> teacher.schedule: & got 'linear'
teacher.precision=fp8 -> teacher.precision: & got 'fp8'
teacher.precision=bfloat16 -> teacher.precision: & got 'bfloat16'
bank.form=dense -> bank.form: & got 'dense'
bank.dtype=fp16 -> bank.dtype: & got 'fp16'
bank.class_bn=yes -> bank.class_bn: & got 'yes'
bank.layers=blocks -> bank.layers: & got 'blocks'
bank.layers=[''] -> bank.layers.0: & got ''
bank.precision=16 -> bank.precision: & got 16
recover.precision=half -> recover.precision: & got 'half'
labels.per=batch -> labels.per: & got 'batch'
labels.form=fp8 -> labels.form: & got 'fp8'
labels.choice=last -> labels.choice: & got 'last'
labels.replay=never -> labels.replay: & got 'never'
labels.rest=all -> labels.rest: & got 'all'
labels.form=pq -> labels: form pq needs the labels of many views
labels.per=view labels.form=lowrank labels.keep=0.5 -> labels: form lowrank needs all views of each image
labels.codes=0 -> labels.codes: & got 0
labels.views=none -> labels.views: & got 'none'
labels.mix_per=epoch -> labels.mix_per: & got 'epoch'
labels.order=fkd2 -> labels.order: & got 'fkd2'
labels.teachers=second -> labels.teachers: & got 'second'
labels.average=median -> labels.average: & got 'median'
method.init=random -> arms.deda: init random chooses among candidates & give candidates
method.init=randm -> arms.deda.init: & got 'randm'
method.optimizer=adamw -> arms.deda.optimizer: & got 'adamw'
method.schedule=step -> arms.deda.schedule: & got 'step'
method.clip=perhaps -> arms.deda.clip: & got 'perhaps'
method.save.format=gif -> arms.deda.save.format: & got 'gif'
method.save.rounding=floor -> arms.deda.save.rounding: & got 'floor'
method.augment.curriculum=sine -> arms.deda.augment.curriculum: & got 'sine'
"""

METHODS = """\
method.steps=3 method.terms.ce=null -> arms.plain: terms are all null: give at least one, or set
method.terms=3 -> arms.deda.terms: & got 3
method.terms=[ce] -> arms.deda.terms: & got ['ce']
method.terms={ce: 3} -> arms.deda.terms.ce: & got 3
method.terms={xe: {}} -> unknown key arms.deda.terms.xe
method.terms.ce.weight=-1 -> arms.deda.terms.ce.weight: & got -1
method.terms.bn={weight: -1} -> arms.deda.terms.bn.weight: & got -1
method.terms.bn={target: batch} -> arms.deda.terms.bn.target: & got 'batch'
method.terms.gaussian={layers: tops} -> arms.deda.terms.gaussian.layers: & got 'tops'
method.terms.gaussian={layers: []} -> arms.deda.terms.gaussian.layers: & got ()
method.terms.gaussian={layers: [1]} -> arms.deda.terms.gaussian.layers: & got (1,)
method.terms.gaussian={cov_norm: sum} -> arms.deda.terms.gaussian.cov_norm: & got 'sum'
method.terms.gaussian={gamma: -1} -> arms.deda.terms.gaussian.gamma: & got -1
method.terms.dire={reading: draft} -> arms.deda.terms.dire.reading: & got 'draft'
method.terms.dire={real_per_class: 0} -> arms.deda.terms.dire.real_per_class: & got 0
method.terms.dire={r_cd: nan} -> arms.deda.terms.dire.r_cd: & got 'nan'
method.terms.conv={patch: 0} -> arms.deda.terms.conv.patch: & got 0
method.terms.conv={drop: 1.5} -> arms.deda.terms.conv.drop: & got 1.5
method.terms.nuc={tau: 0} -> arms.deda.terms.nuc.tau: & got 0
method.augment.curriculum=linear -> arms.deda.augment: curriculum changes the crop's scale, but
method.augment.scale=[0.1, 1] method.augment.pad=2 -> arms.deda.augment: & got pad 2 and scale [0.1, 1.0]
method.perturb={steps: 0} -> arms.deda.perturb.steps: & got 0
method.perturb={rho: 0} -> arms.deda.perturb.rho: & got 0
method.perturb={} method.augment.pad=1 -> arms.deda: & got augment.pad 1
method.early_late={rounds: 0} -> arms.deda.early_late.rounds: & got 0
method.early_late={rounds: 2} method.batch.slots=1 -> arms.deda: & got 1
method.offset={} method.init=noise -> arms.deda: offset is added to real images, but init is noise
method.offset={} method.perturb={} method.init=real -> arms.deda: offset does not go with early_late
method.formation={images: 0} -> arms.deda.formation.images: & got 0
method.formation={luma: 1.5} -> arms.deda.formation.luma: & got 1.5
method.formation={} method.save.format=jpeg -> arms.deda: & got jpeg
method.formation={images: 3} method.batch.slots=2 -> arms.deda: & got 2
method.match={} -> arms.deda.match: & got none
method.match={features: {}, kernel: {}} -> arms.deda.match: & got features and kernel
method.match={features: {layers: first}} -> arms.deda.match.features.layers: & got 'first'
method.match={features: {map: max}} -> arms.deda.match.features.map: & got 'max'
method.match={features: {power: 0}} -> arms.deda.match.features.power: & got 0
method.match={features: {weights: [1, -1], layers: all}} -> arms.deda.match.features.weights.1: & got -1
method.match={features: {weights: [1]}} -> arms.deda.match: match.features.weights weighs several
method.match={features: {discriminate: 0.1}} method.batch.classes=1 -> arms.deda: & got 1 and all
method.match={gradients: {metric: l1}} -> arms.deda.match.gradients.metric: & got 'l1'
method.match={gradients: {synthetic: 0}} -> arms.deda.match.gradients.synthetic: & got 0
method.match={trajectory: {steps: 0}} -> arms.deda.match.trajectory.steps: & got 0
method.match={trajectory: {epochs: 0}} -> arms.deda.match.trajectory.epochs: & got 0
method.match={trajectory: {batch: 0}} -> arms.deda.match.trajectory.batch: & got 0
method.match={trajectory: {lr: 0}} -> arms.deda.match.trajectory.lr: & got 0
method.match={trajectory: {}, networks: {inner: {}}} -> arms.deda.match: match.trajectory takes
method.match={trajectory: {}, added: {through: network}} -> arms.deda.match: match.trajectory shows its
method.match={kernel: {depth: 0}} -> arms.deda.match.kernel.depth: & got 0
method.match={kernel: {ridge: 0}} -> arms.deda.match.kernel.ridge: & got 0
method.match={kernel: {}, added: {through: network}} -> arms.deda.match: match.kernel has no
method.match={features: {}, networks: {real: 0}} -> arms.deda.match.networks.real: & got 0
method.match={features: {}, networks: {steps: 0}} -> arms.deda.match.networks.steps: & got 0
method.match={features: {}, networks: {inner: {on: both}}} -> deda.match.networks.inner.on: & got 'both'
method.match={features: {}, networks: {inner: {mix: mixup}}} -> deda.match.networks.inner.mix: & got 'mixup'
method.match={features: {}, siamese: {operations: [blur]}} -> deda.match.siamese.operations.0: & got 'blur'
method.match={features: {}, siamese: {operations: flip}} -> arms.deda.match.siamese.operations: & got 'flip'
method.match={features: {}, added: {share: 0}} -> arms.deda.match.added.share: & got 0
method.match={features: {}, added: {through: bank}} -> arms.deda.match.added.through: & got 'bank'
method.match={features: {}, added: {through: network}} method.terms.bn={} -> arms.deda: & got bn
method.match={features: {}} method.perturb={} -> arms.deda: match does not go with perturb
method.match={features: {}} method.offset={} method.init=real -> arms.deda: match does not go with offset
method.match={trajectory: {}} method.batch.slots=1 -> arms.deda: & got 1 and 1
experts.siamese.operations=[blur] -> experts.siamese.operations.0: & got 'blur'
method.init=kmeans bank.embeddings=5 -> arms.deda.init kmeans ranks all real images by their
"""

STUDENTS = """\
student.steps=0 -> student.steps: & got 0
student.steps=2 student.epochs=3 -> student: give one of steps and epochs & got steps 2 and epochs 3
student.steps=null -> student: give one of steps and epochs & got neither
student.epochs=0 -> student.epochs: & got 0
student.batch=0 -> student.batch: & got 0
student.batch=huge -> student.batch: & got 'huge'
student.accumulate=0 -> student.accumulate: & got 0
student.optimizer=adam -> student.optimizer: & got 'adam'
student.lr=0 -> student.lr: & got 0
student.lr=by_name -> student.lr: & got 'by_name'
student.lr=1e999 -> student.lr: & got inf
student.schedule=linear -> student.schedule: & got 'linear'
student.schedule=multistep -> student: schedule multistep needs milestones, and no other
student.schedule=multistep student.milestones=[0.5, 0.2] -> student: & got [0.5, 0.2]
student.milestones=[0.5] -> student: schedule multistep needs milestones, and no other
student.schedule=multistep student.milestones=[1.5] -> student.milestones.0: & got 1.5
student.stretch=0 -> student.stretch: & got 0
student.warmup=-1 -> student.warmup: & got -1
student.labels=soft -> student.labels: & got 'soft'
student.teacher_mode=test -> student.teacher_mode: & got 'test'
student.loss=ce -> student.loss: & got 'ce'
student.temperature=0 -> student.temperature: & got 0
student.temperature=-4 -> student.temperature: & got -4
student.hard_weight=-1 -> student.hard_weight: & got -1
student.hard_part=0.1 -> student: hard_part needs loss cosine, got loss kl
student.hard_smoothing=1 -> student.hard_smoothing: & got 1
student.student_temperature=0 -> student.student_temperature: & got 0
student.loss=mse student.student_temperature=1 -> student: student_temperature needs loss kl
student.temperature_schedule={kind: linear} -> student.temperature_schedule.kind: & got 'linear'
student.temperature_schedule.every=0 -> student.temperature_schedule.every: & got 0
student.labels=hard student.label_stages=[[soft, 1]] -> student: label_stages takes soft labels in turn
student.label_stages=[[soft, 0.5]] -> student: shares of label_stages must add up to 1, got 0.5
student.randaugment=3 -> student.randaugment: & got 3
student.randaugment={table: pil} -> student.randaugment.table: & got 'pil'
student.randaugment.operations=0 -> student.randaugment.operations: & got 0
student.shuffle_patches=0 -> student.shuffle_patches: & got 0
student.scale=[1, 0.08] -> student: & got [1.0, 0.08]
student.scale=[0, 1] -> student: & got [0.0, 1.0]
student.pad=-1 -> student.pad: & got -1
student.pad_color=white -> student.pad_color: & got 'white'
student.flip=1.01 -> student.flip: & got 1.01
student.siamese=[blur] -> student.siamese.0: & got 'blur'
student.siamese=flip -> student.siamese: & got 'flip'
student.mix=cutout -> student.mix: & got 'cutout'
student.mix_alpha=0 -> student.mix_alpha: & got 0
student.mix_probability=2 -> student.mix_probability: & got 2
student.seeds=0 -> student.seeds: & got 0
student.evaluations=0 -> student.evaluations: & got 0
student.test_every=0 -> student.test_every: & got 0
student.best_from=1.5 -> student.best_from: & got 1.5
student.reported=mean -> student.reported: & got 'mean'
student.precision=fp64 -> student.precision: & got 'fp64'
student.protocol=nobody -> unknown protocol 'nobody'
student.protocol= -> unknown protocol ''
student.ema=1 -> student.ema: & got 1
student.momentum=1 -> student.momentum: & got 1
student.lr_interval=second -> student.lr_interval: & got 'second'
students.other.lr=0 -> students.other.lr: & got 0
students.other.protocol=nobody -> students.other.protocol: unknown protocol 'nobody'
students.other.steps=0 -> students.other.steps: & got 0
"""
GROUPS = {
    "keys of recipes": KEYS,
    "values of recipes": VALUES,
    "methods and matching": METHODS,
    "students and protocols": STUDENTS,
}
FILES = {
    "nothing": ("", "must be a mapping with a section `arms`"),
    "a comment alone": ("# arms", "must be a mapping with a section `arms`"),
    "a number": ("3", "must be a mapping with a section `arms`"),
    "a text": ("arms", "must be a mapping with a section `arms`"),
    "a list": ("[arms]", "must be a mapping with a section `arms`"),
    "no arms": ("ipc: 3", "must be a mapping with a section `arms`"),
    "arms without a value": ("arms:", "must be a mapping with a section `arms`"),
    "a list of arms": ("arms: [deda]", "must be a mapping with a section `arms`"),
    "an arm that is a text": ("arms: {a: deda}", "arms.a must be a mapping"),
    "an arm that is nothing": ("arms: {a: }", "arms.a must be a mapping"),
    "an unknown method": ("arms: {a: {method: dedaa}}", "dedaa"),
    "a method that is a number": ("arms: {a: {method: 3}}", "got 3"),
    "a method that is a list": ("arms: {a: {method: [deda]}}", "got ['deda']"),
    "an unknown addition": ("arms: {a: {method: deda, add: [dir]}}", "dir"),
    "an addition that is no list": ("arms: {a: {method: deda, add: dire}}", "got 'dire'"),
    "additions that are numbers": ("arms: {a: {method: deda, add: [3]}}", "got [3]"),
    "an arm's unknown key": ("arms: {a: {method: deda, lrr: 1}}", "unknown key arms.a.lrr"),
    "a term's unknown key": ("arms: {a: {terms: {ce: {wait: 1}}}}", "unknown key arms.a.terms.ce.wait"),
    "an arm's name with a slash": ("arms: {a/b: {method: deda}}", "'a/b' becomes a folder name"),
    "an arm's name of dots": ("arms: {..: {method: deda}}", "'..' becomes a folder name"),
    "an arm's name that is taken": ("arms: {random: {method: deda}}", "arms.random is"),
    "an arm called as the whole set": ("arms: {full: {method: deda}}", "arms.full is"),
    "an empty name of an arm": ("arms: {'': {method: deda}}", "'' becomes a folder name"),
    "a student with an arm's name": ("arms: {a: {}}\nstudents: {a: {}}", "students.a has the name of an arm"),
    "a student's name with a slash": ("arms: {a: {}}\nstudents: {x/y: {}}", "students.x/y"),
    "students that are a list": ("arms: {a: {}}\nstudents: [a]", "students"),
    "a student that is a text": ("arms: {a: {}}\nstudents: {b: convnet1}", "convnet1"),
    "a committee that is a list": ("arms: {a: {}}\ncommittee: [resnet8]", "committee"),
    "a member that is a number": ("arms: {a: {}}\ncommittee: {b: 3}", "committee"),
    "a member's name with a dash": ("arms: {a: {}}\ncommittee: {b-c: {}}", "'b-c' becomes a file name"),
    "an unknown section": ("arms: {a: {}}\nstudnt: {}", "unknown key studnt (did you mean 'student'?)"),
    "a section that is a number": ("arms: {a: {}}\nstudent: 3", "student"),
    "a section that is a list": ("arms: {a: {}}\ndata: [digits]", "data: "),
    "a method section that is a list": ("arms: {a: {}}\nmethod: [1]", "got [1]"),
    "an unknown data set": ("arms: {a: {}}\ndataset: cifar11", "unknown dataset 'cifar11'"),
    "a data set that is a number": ("arms: {a: {}}\ndataset: 10", "unknown dataset 10"),
    "a name with a slash": ("name: a/b\narms: {a: {}}", "'a/b' becomes a folder name"),
    "a name that climbs": ("name: ../../a\narms: {a: {}}", "'../../a' becomes a folder name"),
    "an empty name": ("name: ''\narms: {a: {}}", "'' becomes a folder name"),
    "a name of 300 letters": (f"name: {300 * 'a'}\narms: {{a: {{}}}}", "at most"),
    "a name that is a number": ("name: 3\narms: {a: {}}", "name: input should be a valid string, got 3"),
    "a zero byte in a path": ('arms: {a: {}}\ndata: {root: "a\\0b"}', "data.root"),
    "half of a letter": ('arms: {a: {}}\ndescription: "\\ud800"', "description"),
    "a zero byte in a key": ('arms: {a: {}}\n"da\\0ta": {}', "da"),
    "points without a sweep": (
        "arms: {a: {}}\nsweep: {points: {b: {of: a, title: x, at: {}}}}",
        "sweep.points.b names no arm",
    ),
    "a mean of another number of channels": (
        "arms: {a: {}}\ndata: {channels: 1}",
        "teacher.mean has 3 values, expected one for each of the 1 channels",
    ),
    "weights beside a start": (
        "arms: {a: {}}\nteacher: {weights: a, init: b}",
        "weights a are used as they are, and init b is trained further; set one of the two to null",
    ),
    "a protocol that is a number": ("arms: {a: {}}\nstudent: {protocol: 3}", "3"),
    "a source without its value": ("arms: {a: {lr: !paper }}", "lr"),
    "a student's arms without a list": (
        "arms: {a: {}}\nstudents: {b: {}}\nstudent_arms: {b: a}",
        "student_arms.b: input should be a list in brackets, got 'a'",
    ),
    "lists of a student's arms": (
        "arms: {a: {}}\nstudents: {b: {}}\nstudent_arms: {b: [[a]]}",
        "student_arms.b.0: input should be a valid string, got ['a']",
    ),
    "a student of no arm": (
        "arms: {a: {}}\nstudents: {b: {}}\nstudent_arms: {b: []}",
        "student_arms.b names no arm; leave that student out instead",
    ),
    "a teacher of an arm twice": (
        "arms: {a: {committee: [b, b]}}\ncommittee: {b: {}}",
        "arms.a.committee has 'b' twice; give each teacher once",
    ),
    "a teacher of an arm that is not there": (
        "arms: {a: {committee: [c]}}\ncommittee: {b: {}}",
        "arms.a.committee: there is no further teacher 'c'; committee: b",
    ),
    "published numbers of an unknown kind": (
        "arms: {a: {}}\npublished: {item: x, features: {accuracy: {a: 3}}}",
        "published.features.accuracy: input should be 'coverage', 'cosine' or 'vendi'",
    ),
    "published numbers that are a number": (
        "arms: {a: {}}\npublished: 3",
        "published: input should be a section, such as {key: value}, got 3",
    ),
    "an unknown tag": ("arms: {a: {lr: !guess 3}}", "!guess"),
}
"""what a recipe file holds, and a part of the message"""


def rows(tables: dict[str, str]) -> Iterator[ParameterSet]:
    """A parameter for each row: its overrides, and the parts of the message."""
    for group, table in tables.items():
        for row in table.splitlines():
            typed, _, parts = row.partition(" -> ")
            overrides = re.split(r" (?=[a-z_.]+=)", typed)
            mark = pytest.mark.bad_input(group)
            yield pytest.param(overrides, parts.split(" & "), id=typed, marks=mark)


def refused(name: str, overrides: list[str]) -> str:
    """The one line of a refusal."""
    with pytest.raises(InputError) as caught:
        resolve(name, overrides)
    text = str(caught.value)
    assert len(text.splitlines()) == 1
    assert len(text) < 2000
    return text


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("bad") / "own.yaml"
    path.write_text(SMALL)
    resolve(str(path))
    return str(path)


@pytest.mark.parametrize(("overrides", "parts"), list(rows(GROUPS)))
def test_an_override_that_cannot_be_meant_is_named(
    recipe: str, overrides: list[str], parts: list[str]
) -> None:
    text = refused(recipe, overrides)
    assert all(part in text for part in parts), text


def test_an_item_that_is_wrong_does_not_make_its_list_too_short(recipe: str) -> None:
    text = refused(recipe, ["arms.deda.sizes=[-1]"])
    assert text.endswith("arms.deda.sizes.0: input should be greater than or equal to 1, got -1")


@pytest.mark.bad_input("recipe files")
@pytest.mark.parametrize("kind", FILES)
def test_a_file_that_is_no_recipe_says_what_is_wrong(kind: str, tmp_path: Path) -> None:
    content, part = FILES[kind]
    (tmp_path / "own.yaml").write_text(content)
    assert part in refused(str(tmp_path / "own.yaml"), [])
