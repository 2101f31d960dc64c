"""The units of systemd: valid, locked down, and for a program that tells when it is ready."""

import os
import re
import subprocess
import tempfile

from common import DEPLOY, ROOT, check

UNITS = f"{DEPLOY}/systemd"
PROGRAM = "/usr/local/bin/kling-balancer"
# Of 100. What is left: it is reached from the network, names are resolved, and it raises its limit of open files.
EXPOSURE_MAX = 13


def check_units():
    with tempfile.TemporaryDirectory() as directory:
        units = []
        for name in sorted(os.listdir(UNITS)):
            unit = open(f"{UNITS}/{name}").read().replace(PROGRAM, f"{ROOT}/target/debug/kling-balancer")
            units.append(f"{directory}/{name}")
            open(units[-1], "w").write(unit)
        verified = subprocess.run(
            ["systemd-analyze", "verify", "--man=no", *units], capture_output=True, text=True
        )
        said = verified.stdout + verified.stderr
        # It warns of an unknown line and ends with 0.
        check(verified.returncode == 0 and not said, f"systemd: {said}")
        services = [unit for unit in units if unit.endswith(".service")]
        limit = ["--offline=true", f"--threshold={EXPOSURE_MAX}", "--no-pager"]
        rated = subprocess.run(["systemd-analyze", "security", *limit, *services], capture_output=True, text=True)
        check(rated.returncode == 0, f"systemd: too exposed\n{rated.stdout}{rated.stderr}")
    return re.search(r"exposure level for .*: ([\d.]+)", rated.stdout)[1]


def check_rules():
    service = open(f"{UNITS}/kling-balancer.service").read()
    lines = dict(line.split("=", 1) for line in service.splitlines() if "=" in line and not line.startswith("#"))
    check(lines["Type"] == "notify", "systemd does not wait for the start")
    check("KLB_STATE__KIND=disk" in lines["Environment"] and lines["StateDirectory"], "systemd: the leases are lost")
    # shutdown.grace is 25 s if not set.
    check(int(lines["TimeoutStopSec"]) > 25, "systemd kills it while it drains")
    named = [name for key in ("Requires", "After") for name in lines[key].split() if name.startswith("kling")]
    check(all(os.path.exists(f"{UNITS}/{name}") for name in named), f"systemd: no {named}")


def check_all():
    check_rules()
    exposure = check_units()
    print(f"systemd: the units are valid, exposure {exposure} of 10")
