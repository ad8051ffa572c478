"""Make a virtual environment, also where Python came without ensurepip (Debian splits it off).

Usage: python3 bootstrap.py .venv
"""

import hashlib
import io
import json
import subprocess
import sys
import urllib.parse
import urllib.request
import venv
import zipfile
from pathlib import Path

OLDEST = (3, 11)
NEWEST_PIP = "https://pypi.org/pypi/pip/json"


def fetch_pip(into: Path) -> None:
    """Unpack the newest pip wheel from PyPI, its checksum compared, into a site-packages folder."""
    with urllib.request.urlopen(NEWEST_PIP) as answer:
        release = next(file for file in json.load(answer)["urls"] if file["packagetype"] == "bdist_wheel")
    # A mirror may name its files relative to the page.
    with urllib.request.urlopen(urllib.parse.urljoin(NEWEST_PIP, release["url"])) as answer:
        wheel = answer.read()
    if hashlib.sha256(wheel).hexdigest() != release["digests"]["sha256"]:
        raise SystemExit("bootstrap: the pip wheel arrived damaged; run it again")
    zipfile.ZipFile(io.BytesIO(wheel)).extractall(into)


def main(folder: str) -> None:
    """Make the environment at ``folder`` unless it is there already."""
    if sys.version_info < OLDEST:
        have = sys.version.split()[0]
        raise SystemExit(f"bootstrap: Python {have} is too old, kineme needs 3.11: make PYTHON=python3.12")
    python = Path(folder) / "bin" / "python"
    if not python.exists():
        venv.create(folder, with_pip=False, symlinks=True)
    if subprocess.run([python, "-m", "pip", "--version"], capture_output=True, check=False).returncode == 0:
        return
    if subprocess.run([python, "-m", "ensurepip"], capture_output=True, check=False).returncode != 0:
        ask = "import sysconfig; print(sysconfig.get_path('purelib'))"
        site = subprocess.check_output([python, "-c", ask], text=True)
        fetch_pip(Path(site.strip()))
    # pip installs itself once more, for its command.
    subprocess.run([python, "-m", "pip", "install", "--quiet", "--upgrade", "--force-reinstall", "pip"], check=True)


if __name__ == "__main__":
    main(sys.argv[1])
