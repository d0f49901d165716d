"""Facial keypoint detection: fifteen keypoints of every face in a photo or video, and a course that teaches how.

    import facekp
    faces = facekp.predict("photo.jpg")
    faces[0]["nose_tip"]

The names at the top of the package are loaded on first use. Training needs the extra `train` (see README). The modules and folders of modules:

Faces and their labels:
facekp.keypoints           names, order, mirror pairs and colours of the keypoints.
facekp.conventions         Kaggle's annotation sources, 300-W's 68 points, and how they map to the fifteen.
facekp.faces               Faces: images with keypoints, groups and sources.
facekp.data                read Kaggle's files, 300-W folders and .npz; split by group; find duplicates.
facekp.synthetic           render synthetic faces with exact keypoints, and a data set like Kaggle's.

Exploring labels:
facekp.eda                 missing labels, blocks of annotators, duplicates.
facekp.eda_plots           charts of these.
facekp.annotation_sources  the row where a second annotation source begins.
facekp.label_errors        labels that are probably wrong.
facekp.audit               all findings about a data set in one object.
facekp.audit_report        an audit as text.
facekp.label_audit         the record of the audit of Kaggle's label table.

Preparing a training set:
facekp.labels              named strategies for missing labels.
facekp.impute              imputation of missing keypoints.
facekp.augment             augmentation steps and recipes.
facekp.augment_bulk        augment_faces: a whole training set on all cores.

Models and training:
facekp.models              the networks, their registry, layers and files.
facekp.training            masked losses, the training loop, transfer and distributed training.
facekp.export              ONNX and LiteRT.

Measuring and comparing:
facekp.metrics             RMSE, NME, PCK and others.
facekp.metric_checks       shapes of labels and predictions, and means over labelled values.
facekp.normalization       the distances in a face that normalise an NME.
facekp.error_curves        the cumulative error distribution, its area and the failure rate.
facekp.evaluation          all metrics with confidence intervals.
facekp.statistics          bootstrap over groups.
facekp.experiments         trials, records, tables and charts of a comparison; Kaggle submissions.

Prediction:
facekp.inference           detect faces, predict and track their keypoints.
facekp.images              read and write images.
facekp.video               read the frames of videos and webcams.
facekp.tiff_files          previews and decoding errors in TIFF files.
facekp.geometry            crops, and points between image and crop.
facekp.limits              the smallest face and the largest image.
facekp.supervision_points  keypoints for the package supervision.
facekp.plots               grids of faces with labels and predictions.
facekp.clear_faces         faces that suit a figure.

The command:
facekp.jobs                every job, as a function.
facekp.cli                 the command itself.
facekp.cli_options         the options of each job.
facekp.cli_jobs            the output of each job.
facekp.completion          scripts for bash, zsh and fish.
facekp.options             errors in options, in one line.
facekp.config              settings.ini and the environment.
facekp.progress            progress bars.
facekp.interrupts          Ctrl-C.

Files and errors:
facekp.errors              UserError, RunError and suggestions for misspelt names.
facekp.files               atomic writes, JSON and hashes.
facekp.foreign_files       files that are not the user's data.
facekp.folder_lock         one writer per folder.
facekp.run_folder          the run that a folder contains.
facekp.repository_files    files of the repository, for lessons outside a clone.
facekp.tables              Markdown tables.
"""

import lazy_loader

__version__ = "0.2.0"
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
