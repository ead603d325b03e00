"""Files that are larger than memory, files that are whole after a crash, and hashes of source files."""

from mtcore.files.memory import parse_bytes, peak_bytes, resident_bytes, show_bytes, trim_memory
from mtcore.files.pages import drop_pages, fetch_pages, in_file, read_once
from mtcore.files.places import file_problems, local_path, parent_problems, taken_inputs
from mtcore.files.sources import hash_sources
from mtcore.files.tensors import TensorFile, TensorSource, facts_of, save_tensors
from mtcore.files.whole import sync_directory, whole_file, write_json

__all__ = [
    "TensorFile",
    "TensorSource",
    "drop_pages",
    "facts_of",
    "fetch_pages",
    "file_problems",
    "hash_sources",
    "in_file",
    "local_path",
    "parent_problems",
    "parse_bytes",
    "peak_bytes",
    "read_once",
    "resident_bytes",
    "save_tensors",
    "show_bytes",
    "sync_directory",
    "taken_inputs",
    "trim_memory",
    "whole_file",
    "write_json",
]
