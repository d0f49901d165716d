from .augment_bulk import augment_faces as augment_faces
from .data.sources import load_faces as load_faces
from .data.split import split_by_group as split_by_group
from .errors import RunError as RunError
from .errors import UserError as UserError
from .faces import Faces as Faces
from .images import read_image as read_image
from .inference.landmarker import load as load
from .inference.landmarker import predict as predict
from .inference.prediction import Prediction as Prediction
from .inference.results import Face as Face
from .inference.tracked_video import track as track
from .jobs import compare as compare
from .jobs import evaluate as evaluate
from .jobs import export_model as export_model
from .jobs import train as train
from .keypoints import KEYPOINTS as KEYPOINTS
from .labels import apply_label_strategy as apply_label_strategy
from .models.files import load_model as load_model
from .models.registry import build_model as build_model
from .models.registry import list_models as list_models
from .plots import show_faces as show_faces
from .synthetic.renderer import synthetic_faces as synthetic_faces
from .training.loop import fit as fit

__version__: str
