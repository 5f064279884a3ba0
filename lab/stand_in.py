from pathlib import Path


def stand_in_archive(lab_dir: Path) -> Path:
    return lab_dir
