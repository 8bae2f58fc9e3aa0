from robustad.attacks import PGD as PGD
from robustad.attacks import ImageObjective as ImageObjective
from robustad.attacks import MapObjective as MapObjective
from robustad.data import ImageDataset as ImageDataset
from robustad.data import load_samples as load_samples
from robustad.detectors import PatchGuard as PatchGuard
from robustad.detectors import PatchGuardConfig as PatchGuardConfig
from robustad.detectors import load_checkpoint as load_checkpoint
from robustad.detectors import save_checkpoint as save_checkpoint
from robustad.errors import RobustadError as RobustadError
from robustad.inference import Predictor as Predictor
from robustad.types import Prediction as Prediction
from robustad.workflows._data import DataConfig as DataConfig
from robustad.workflows.fit import FitConfig as FitConfig
from robustad.workflows.fit import fit as fit
from robustad.workflows.fit import fit_config as fit_config
from robustad.workflows.predict import predict as predict
from robustad.workflows.test import test as test
from robustad.workflows.test_config import TestConfig as TestConfig
from robustad.workflows.visualize import visualize as visualize

__version__: str
