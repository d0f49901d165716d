__version__ = "0.1.0"


def load(model="default", **options):
    """Load a detector of faces and their keypoints: `facekp.load().predict(image)`.

    `model` is 'default', an .onnx file, a .keras file or the folder of a run; the options are those of facekp.predict.Detector."""
    from facekp.predict import load

    return load(model, **options)
