"""Detectors in use: streams of files in, scores, tables and overlays out."""

from robustad.inference.journal import Journal, journal_path
from robustad.inference.overlays import MapScale, checked_scale, draw_overlay, map_scale, output_path, write_png
from robustad.inference.predictor import Predictor, Scored, pick_device, to_images
from robustad.inference.reading import Picture, Read, picture_reader, read_ahead
from robustad.inference.sources import Source, Sources, check_place
from robustad.inference.tables import TABLES, check_table, write_table

__all__ = [
    "TABLES",
    "Journal",
    "MapScale",
    "Picture",
    "Predictor",
    "Read",
    "Scored",
    "Source",
    "Sources",
    "check_place",
    "check_table",
    "checked_scale",
    "draw_overlay",
    "journal_path",
    "map_scale",
    "output_path",
    "pick_device",
    "picture_reader",
    "read_ahead",
    "to_images",
    "write_png",
    "write_table",
]
