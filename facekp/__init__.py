__version__ = "0.1.0"


def load(model="default", **options):
    from facekp.inference.landmarker import load

    return load(model, **options)
