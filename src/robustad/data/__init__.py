"""Datasets: folder layouts as a table, one dataset class, honest splits."""

from robustad.data.catalog import CATALOG, DatasetEntry, load_samples
from robustad.data.check import Problem, check_dataset, check_split
from robustad.data.dataset import ImageDataset, Item
from robustad.data.folder import load_folder
from robustad.data.layouts import LAYOUTS, Layout, list_categories, read_layout
from robustad.data.multiclass import against_each, load_multiclass
from robustad.data.roots import data_home, default_root
from robustad.data.samples import Sample, Split

__all__ = [
    "CATALOG",
    "LAYOUTS",
    "DatasetEntry",
    "ImageDataset",
    "Item",
    "Layout",
    "Problem",
    "Sample",
    "Split",
    "against_each",
    "check_dataset",
    "check_split",
    "data_home",
    "default_root",
    "list_categories",
    "load_folder",
    "load_multiclass",
    "load_samples",
    "read_layout",
]
