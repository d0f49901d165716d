"""Facial keypoint detection: fifteen keypoints of every face in a photo or video, and a course that teaches how.

    import facekp
    faces = facekp.predict("photo.jpg")
    faces[0]["nose_tip"]

The names at the top of the package are loaded on first use. Training needs the extra `train` (see README). The modules:

facekp.keypoints     names, order, mirror pairs and colours of the keypoints
facekp.conventions   annotation sources, 300-W's 68 points and how they map to the fifteen
facekp.faces         Faces: images with keypoints, groups and sources
facekp.data          load Kaggle's files, 300-W folders and .npz; split by group; find duplicates
facekp.synthetic     render synthetic faces with exact keypoints, and a data set like Kaggle's
facekp.eda           exploratory data analysis; facekp.audit collects it, facekp.label_errors finds wrong labels
facekp.impute        imputation of missing keypoints; facekp.labels names the strategies
facekp.augment       augmentation steps and recipes
facekp.metrics       RMSE, NME, PCK and others; facekp.evaluation adds confidence intervals
facekp.models        the networks, their registry, layers and files
facekp.training      masked losses, the training loop, transfer and distributed training
facekp.experiments   trials, records, statistics, tables and charts of a comparison; Kaggle submissions
facekp.images        read and write images; facekp.video reads videos; facekp.geometry crops and maps points
facekp.inference     detect faces, predict and track their keypoints
facekp.export        ONNX and LiteRT
facekp.plots         draw faces with keypoints
facekp.config        settings.ini and the environment
facekp.jobs          the jobs of the command, as functions; facekp.cli is the command
"""

import lazy_loader

__version__ = "0.2.0"
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
